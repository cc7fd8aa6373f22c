"""``nas spaces`` and ``nas profile``: what can be searched, and what a network costs."""

from __future__ import annotations

from typing import Annotated

import typer

from nas.commands.terminal import make_console, parse_image_shape


def spaces(
    name: Annotated[str | None, typer.Argument(help="A search space's name, or the path of its YAML file.")] = None,
) -> None:
    """List the search spaces, or describe one: every choice, its values, how many designs.

    Examples:

        nas spaces

        nas spaces convnet
    """
    from nas.report.spaces import space_table, spaces_table
    from nas.space import list_spaces, load_space

    console = make_console()
    console.print(spaces_table(list_spaces()) if name is None else space_table(load_space(name)))


def profile(
    subject: Annotated[
        str,
        typer.Argument(help="An ONNX file, a trial (studies/digits:12), or a search space.", metavar="MODEL_OR_DESIGN"),
    ],
    choices: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A space's choice, such as stage1.width=32; repeatable.")
    ] = None,
    input_shape: Annotated[str, typer.Option(help="Height×width×channels for a design of a space.")] = "28x28x1",
    classes: Annotated[int, typer.Option(min=2, help="Classes for a design of a space.")] = 10,
    target: Annotated[str, typer.Option(help="What to measure on.")] = "onnxruntime-cpu-1t-b1",
) -> None:
    """Count FLOPs, MACs and parameters per layer, and hold the estimated against the measured time.

    Examples:

        nas profile deploy/model.onnx

        nas profile studies/digits:12

        nas profile convnet --set stage1.conv=separable --input-shape 28x28x1
    """
    from nas.target import Target

    parsed = Target.parse(target)
    image_shape = parse_image_shape(input_shape)
    console = make_console()
    with console.status("counting and measuring …"):
        from nas.profile import render
        from nas.profile.subject import profile_subject

        profiled = profile_subject(subject, choices or [], image_shape, classes, parsed)
    console.print(render(profiled))

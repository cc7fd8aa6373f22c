"""Search spaces as tables: names are shown as they are."""

from __future__ import annotations

import io
import re

from rich.console import Console, RenderableType

from nas.choice import Choice
from nas.own_module import OwnModule
from nas.report.spaces import space_table, spaces_table
from nas.space import SearchSpace


def odd_space() -> SearchSpace:
    first = Choice("[/q]", "architecture", ("[red]a", "b"))
    second = Choice("[bold]w", "architecture", (True, False), when={"[/q]": ("[red]a",)})
    third = Choice("depth", "architecture", (1, 2), when={"[bold]w": (True,)})
    return SearchSpace("[/odd]", "convnet", "for [/i] tests", (first, second, third))


def printed(table: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(table)
    return out.getvalue()


def test_names_and_values_are_no_markup() -> None:
    text = printed(space_table(odd_space()))
    for part in ("[/odd]: family convnet", "for [/i] tests", "[/q]", "[red]a, b", "[bold]w", "[/q] is [red]a"):
        assert part in text, part
    assert "true, false" in text
    assert "[bold]w is true" in text


def test_compression_stands_in_its_order_with_what_belongs_to_a_choice_below_it() -> None:
    names = ["stage1.pruning_ratio", "calibration", "weight_bits", "activation_bits", "pruning_steps", "pruning_ratio"]
    values = {
        "calibration": ("minmax", "entropy"),
        "weight_bits": (8,),
        "activation_bits": (8,),
        "pruning_steps": (1, 3),
    }
    when = {"calibration": {"width": (8,)}}
    first = Choice("width", "architecture", (8, 16))
    choices = (Choice(name, "compression", values.get(name, (0.25, 0.5)), when=when.get(name, {})) for name in names)
    text = printed(space_table(SearchSpace("some", "convnet", "", (first, *choices))))
    shown = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert [re.split(r"\s{3,}", line) for line in shown[3:]] == [
        ["width", "8, 16"],
        ["pruning_ratio", "0.25, 0.5"],
        ["  stage1.pruning_ratio", "0.25, 0.5"],
        ["  pruning_steps", "1, 3"],
        ["weight_bits", "8"],
        ["activation_bits", "8"],
        ["  calibration", "minmax, entropy", "width is 8"],
    ]


def test_a_persons_own_network_is_named() -> None:
    choice = Choice("module", "architecture", ("resnet18",))
    space = SearchSpace("mine", "module", "", (choice,), module=OwnModule("folder/nets.py", "resnet18"))
    assert "mine: family module of nets.py:resnet18, 1 designs" in printed(space_table(space))


def test_a_list_of_spaces_shows_them_as_they_are() -> None:
    text = printed(spaces_table([odd_space()]))
    assert "[/odd]" in text
    assert "for [/i] tests" in text

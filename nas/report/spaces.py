"""Search spaces as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.compression import CHOICES, split_name
from nas.space import Choice, SearchSpace, size_words

if TYPE_CHECKING:
    from rich.console import RenderableType


def spaces_table(spaces: Sequence[SearchSpace]) -> RenderableType:
    """Every space with its family, its number of designs and what it is for."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("space", style="bold", no_wrap=True)
    table.add_column("family", no_wrap=True)
    table.add_column("designs", justify="right", no_wrap=True)
    table.add_column("what it is for")
    for space in spaces:
        # As texts, since in a plain string rich would read "[/q]" as markup.
        table.add_row(*map(Text, (space.name, space.family, size_words(space.size()), space.description)))
    return table


def space_table(space: SearchSpace) -> RenderableType:
    """One space: every choice, its values, and when it is open.

    Compression choices stand in the order of ``nas.compression``; below each, indented, those of single stages and
    those that only refine it.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("choice", style="bold", no_wrap=True)
    table.add_column("values")
    table.add_column("open when", style="dim")
    for choice in (choice for choice in space.choices if choice.group == "architecture"):
        table.add_row(*map(Text, (choice.name, _listed(choice.values), _condition(choice))))
    table.add_section()
    compression = [choice for choice in space.choices if choice.group == "compression"]
    for choice in sorted(compression, key=_place):  # a stable sort: stages stay in declared order
        name = f"{'  ' if _is_detail(choice) else ''}{choice.name}"
        table.add_row(*map(Text, (name, _listed(choice.values), _condition(choice))))
    origin = f" of {space.module.label}" if space.module is not None else ""
    size = size_words(space.size())
    heading = Text.assemble((space.name, "bold"), f": family {space.family}{origin}, {size} designs")
    return Group(heading, Text(space.description, style="dim"), Text(""), table)


def _place(choice: Choice) -> tuple[int, int, bool]:
    """Where a compression choice stands: with what it refines, by the table, the network's before single stages'."""
    stage, name = split_name(choice.name)
    order = list(CHOICES)
    return order.index(CHOICES[name].refines or name), order.index(name), stage is not None


def _is_detail(choice: Choice) -> bool:
    stage, name = split_name(choice.name)
    return stage is not None or CHOICES[name].refines is not None


def _listed(values: Sequence[object], between: str = ", ") -> str:
    return between.join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _condition(choice: Choice) -> str:
    return " and ".join(f"{name} is {_listed(values, ' or ')}" for name, values in choice.when.items())

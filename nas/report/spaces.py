"""Search spaces as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    """One space: every choice, its values, and when it is open."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("choice", style="bold", no_wrap=True)
    table.add_column("values")
    table.add_column("open when", style="dim")
    for group in ("architecture", "compression"):
        for choice in space.choices:
            if choice.group == group:
                table.add_row(*map(Text, (choice.name, _listed(choice.values), _condition(choice))))
        table.add_section()
    heading = Text.assemble((space.name, "bold"), f": family {space.family}, {size_words(space.size())} designs")
    return Group(heading, Text(space.description, style="dim"), Text(""), table)


def _listed(values: Sequence[object], between: str = ", ") -> str:
    return between.join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)


def _condition(choice: Choice) -> str:
    return " and ".join(f"{name} is {_listed(values, ' or ')}" for name, values in choice.when.items())

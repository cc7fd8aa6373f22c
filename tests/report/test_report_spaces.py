"""Search spaces as tables: names are shown as they are."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from nas.choice import Choice
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


def test_a_list_of_spaces_shows_them_as_they_are() -> None:
    text = printed(spaces_table([odd_space()]))
    assert "[/odd]" in text
    assert "for [/i] tests" in text

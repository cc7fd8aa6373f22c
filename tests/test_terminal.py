"""What is printed cannot steer the terminal, whatever names and messages hold."""

from __future__ import annotations

import pytest
from rich.table import Table
from rich.text import Text

from nas.commands.terminal import make_console


@pytest.mark.parametrize("nested", [False, True])
def test_control_characters_of_names_are_left_out(capsys: pytest.CaptureFixture[str], nested: bool) -> None:
    name = Text("three\x1b[31mred\x9b2J\x07 [red]é\u2192\nnext")
    if nested:
        table = Table.grid()
        table.add_row(name)
        make_console().print(table)
    else:
        make_console().print(name)
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in printed.splitlines()] == ["three[31mred2J [red]é\u2192", "next"]


def test_styles_are_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    make_console().print(Text("a\x1bb", "bold"))
    assert capsys.readouterr().out == "\x1b[1mab\x1b[0m\n"

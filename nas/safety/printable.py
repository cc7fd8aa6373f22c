"""Text from files, made fit for a terminal: it may hold what moves the cursor, ends a line, or is no Unicode."""

from __future__ import annotations

# Longer messages repeat a file rather than say what is wrong with it.
LONGEST = 2000


def printable(text: str) -> str:
    """A text in one line, without control characters, and not endless."""
    whole = " ".join(text.splitlines())
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in whole[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"

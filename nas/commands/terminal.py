"""What several commands print: the front, where files went, the command to type next."""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from nas.study import Study

# Of one image: with more the first layer alone takes gigabytes.
MOST_VALUES = 10**7
# All but the end of a line and the tabulator.
CONTROL_CHARACTERS = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def make_console(stderr: bool = False) -> Console:
    """The terminal, or the file that stands for it."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PlainConsole(Console):
        """Leaves out control characters in what is printed, such as those of a class's name, which steer terminals."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or segment.text.isprintable():
                    yield segment
                else:
                    yield Segment(segment.text.translate(CONTROL_CHARACTERS), segment.style)

    # Names of files and classes may look like markup; nothing printed here is.
    return PlainConsole(stderr=stderr, highlight=False, markup=False)


def parse_image_shape(text: str) -> tuple[int, int, int]:
    """Height, width and channels as ``--input-shape`` tells them: ``28x28x1``.

    Raises:
        RecipeError: It reads otherwise, or no network could be run on such an image.
    """
    match = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", text)
    height, width, channels = (int(number) for number in match.groups()) if match is not None else (0, 0, 0)
    if not height * width * channels:
        raise RecipeError(f"--input-shape must read HEIGHTxWIDTHxCHANNELS, but got '{text}'", "such as 28x28x1")
    if height * width * channels > MOST_VALUES:
        raise RecipeError(
            f"--input-shape {text} has {height * width * channels:,} values an image, more than {MOST_VALUES:,}",
            "name the size that the network is to see, such as 224x224x3",
        )
    return height, width, channels


def typed_again() -> str:
    """The command that was typed, less what would start over, and less passwords."""
    words = shlex.join(["nas", *(word for word in sys.argv[1:] if word not in ("--fresh", "--yes", "-y"))])
    if "postgres" not in words:
        return words
    from nas.search.shared.database import without_password

    return without_password(words)


def suggestion(study: Study, path: Path) -> str:
    """The command to type next: the fastest design that loses about a point at most."""
    quality = next(objective for objective in study.recipe.parsed_objectives if objective.maximise)
    best = max(record.value(quality.key) for record in study.front)
    enough = max(0.01, math.floor(100 * best - 1) / 100)
    return shlex.join(["nas", "pick", str(path), "--min-accuracy", f"{enough:.2f}", "--output", "deploy"])


def progress_bar(console: Console) -> Progress:
    """A progress bar across the terminal with the time left, which only a terminal shows, and which then goes."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def print_front(console: Console, study: Study) -> None:
    """The front as a table, or why there is none and what to do."""
    from nas.report.table import front_table
    from nas.wording import plural

    if study.front:
        console.print(front_table(study))
        return
    if study.measured:
        console.print(f"no front: none of {plural(len(study.measured), 'measured trial')} meets the constraints")
        hint = f"'nas report {study.folder.path}' shows by how much they miss; relax them, or let the search go on"
        console.print(hint, style="dim", soft_wrap=True)
        return
    outcomes = Counter(str(record.outcome) for record in study.records)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no trials yet"
    console.print(f"no front: nothing was measured ({ended})")
    failed = f"'nas report {study.folder.path}' says what failed and what to do"
    hint = failed if outcomes else "run 'nas search' with its recipe again: it goes on there"
    console.print(hint, style="dim", soft_wrap=True)


def write_reports(console: Console, study: Study) -> None:
    """Writes tables, pictures and page, and says where, and how far FLOPs are from the clock."""
    with console.status("drawing …"):
        from nas.report.disagreement import rankings
        from nas.report.files import write_front_files
        from nas.report.flops_picture import draw_flops
        from nas.report.foresight import search_lines
        from nas.report.page import write_page
        from nas.report.paper_front import write_paper_pictures
        from nas.report.picture import draw_front

        paths = write_front_files(study)
        draw_front(study, study.folder.picture)
        drawn = write_paper_pictures(study)
        draw_flops(study, study.folder.flops_picture)
        write_page(study, study.folder.page)
        ranking = next(iter(rankings(study)), None)
        said = search_lines(study)
    if ranking is not None and study.measured:
        for words in ranking.short:
            console.print(words, soft_wrap=True)
    for words in said:
        console.print(words, soft_wrap=True)
    for path in [*paths, study.folder.picture, *drawn, study.folder.flops_picture, study.folder.page]:
        console.print(f"wrote {path}", soft_wrap=True)

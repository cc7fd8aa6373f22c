"""``nas pick``: which network of a study's front to take, why, what else there is, and its deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.present import check_picture, draw_present, measure_present, prepare_present
from nas.commands.terminal import make_console
from nas.errors import DataError, NasError

if TYPE_CHECKING:
    from nas.data.dataset import Dataset
    from nas.deploy.choose import Choice
    from nas.deploy.preference import Preference
    from nas.outcome import Quantity
    from nas.study import Study

StudyArgument = Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")]
LIMITS, PREFERENCE, BASELINE = "Limits", "Preference", "Your present model"


def pick(
    study: StudyArgument,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="At most so many milliseconds (median).", rich_help_panel=LIMITS)
    ] = None,
    max_p95_ms: Annotated[
        float | None, typer.Option(help="95 % of calls within so many milliseconds.", rich_help_panel=LIMITS)
    ] = None,
    min_fps: Annotated[
        float | None,
        typer.Option(help="At least so many images a second, 1000 · batch / latency.", rich_help_panel=LIMITS),
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="At least this validation accuracy, 0 to 1.", rich_help_panel=LIMITS)
    ] = None,
    max_size_bytes: Annotated[int | None, typer.Option(help="At most so large a file.", rich_help_panel=LIMITS)] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Where it is served: a target, or a place such as cpu-b1; by default the first objective's.",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    knee: Annotated[
        bool,
        typer.Option(
            "--knee", help="The knee of the front, where more speed begins to cost.", rich_help_panel=PREFERENCE
        ),
    ] = False,
    weigh: Annotated[
        str | None,
        typer.Option(
            help="The best weighed sum: a point of accuracy counts its weight, and so does each halving of a cost. "
            "accuracy=2,latency=1 says that 1 point is worth 2 halvings of latency.",
            metavar="NAME=WEIGHT,…",
            rich_help_panel=PREFERENCE,
        ),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(
            help="What comes first: accuracy, latency, p95, size or another quantity.",
            metavar="NAME",
            rich_help_panel=PREFERENCE,
        ),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            help="With --first: among those at most so much worse than the best in it (points of accuracy, per cent of "
            "a cost) the best in what comes next.",
            rich_help_panel=PREFERENCE,
        ),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            help="With --first: what comes next; latency after accuracy, else accuracy.",
            metavar="NAME",
            rich_help_panel=PREFERENCE,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Your present model, .onnx or a deployment's folder: timed here on what serves the pick, scored where "
            "the data fits its input, and drawn beside the front.",
            rich_help_panel=BASELINE,
        ),
    ] = None,
    baseline_mean: Annotated[
        str | None,
        typer.Option(
            help="What its normalisation, done outside the file, subtracts from pixels of 0 to 1, for each channel.",
            rich_help_panel=BASELINE,
        ),
    ] = None,
    baseline_std: Annotated[str | None, typer.Option(help="What it then divides by.", rich_help_panel=BASELINE)] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Where to draw it: .png, .svg or .pdf; else STUDY/baseline.png.", rich_help_panel=BASELINE),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the deployment into this folder.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="With --output: the network in a further form too, openvino or program; may be repeated."),
    ] = None,
) -> None:
    """Choose a design of the front under limits or by preference, and with --output write its deployment, checked.

    An accuracy limit takes the fastest that is accurate enough, other limits alone the most accurate within them, none
    at all the knee. Designs that measurement cannot tell apart are named; of a tie the smaller file is taken.

    Examples:

        nas pick studies/digits --max-latency-ms 0.03

        nas pick studies/digits --min-accuracy 0.97 --output deploy --also openvino

        nas pick studies/digits --max-p95-ms 2 --target onnxruntime-cpu-2t-b1

        nas pick studies/digits --min-fps 500

        nas pick studies/digits --weigh accuracy=1,latency=2

        nas pick studies/digits --first accuracy --within 0.5

        nas pick studies/digits --knee --baseline present.onnx --baseline-mean 0.29 --baseline-std 0.35
    """
    from nas.deploy import Limits, check_output, choose, render_choice
    from nas.report.picking import seed_spread
    from nas.study import Study

    console = make_console()
    _check_further(also or (), output)
    preference = _preference(weigh, first, within, then)
    normalised = _normalised(baseline, baseline_mean, baseline_std, picture)
    opened = Study.open(study)
    if output is not None:
        check_output(output)
    limits = Limits(max_latency_ms, min_accuracy, max_size_bytes, target, max_p95_ms, min_fps)
    choice = choose(opened, limits, knee=knee, preference=preference, spread=seed_spread(opened))
    data = _Data(opened)
    prepared = prepare_present(baseline, choice, data.or_none, normalised) if baseline is not None else None
    scores, unscored = _test_scores(opened, choice, data)
    console.print(render_choice(choice, opened, scores))
    if unscored:
        console.print(f"the test accuracy is not known: {unscored}", soft_wrap=True)
    if prepared is not None:
        from nas.deploy.beside import render_beside

        with console.status("timing your present model …"):
            found = measure_present(opened, choice, prepared, data.or_none(), data.problem)
        console.print()
        console.print(render_beside(choice, found, scores))
        place, why_not = draw_present(opened, choice, found, picture)
        console.print(f"wrote {place}" if place else f"no picture: {why_not}", soft_wrap=place is not None)
    if output is None:
        console.print("\nno deployment was written; add --output deploy for the model and deployment.json")
        return
    from nas.deploy import deploy
    from nas.trial_program import program_of

    deployment = deploy(
        opened,
        choice,
        output,
        data.needed(),
        also=also or (),
        program=lambda: program_of(opened, choice.record, data.needed()),
    )
    console.print(f"\nwrote {output}: {', '.join(sorted(p.name for p in output.iterdir()))}", soft_wrap=True)
    console.print(deployment.verified)


class _Data:
    """The study's data, read when it is first needed."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.problem = ""
        self._dataset: Dataset | None = None

    def needed(self) -> Dataset:
        """The data.

        Raises:
            DataError: It cannot be read; the hint says how to mend that.
        """
        from nas import data

        if self._dataset is None:
            try:
                self._dataset = data.load(self.study.recipe.data)
            except DataError as error:
                moved = "was it moved? run the search again with the moved recipe; the study then knows the place"
                raise DataError(error.message, error.hint or moved) from error
        return self._dataset

    def or_none(self) -> Dataset | None:
        """The data, or None where it cannot be read; ``problem`` then says why."""
        try:
            return self.needed()
        except DataError as error:
            self.problem = error.message
            return None


def _check_further(also: Sequence[str], output: Path | None) -> None:
    from nas.deploy.further import parse_forms

    if parse_forms(also) and output is None:
        raise NasError("--also belongs to --output, which is not given", "such as --output deploy")


def _preference(weigh: str | None, first: str | None, within: float | None, then: str | None) -> Preference | None:
    from nas.deploy.preference import First, Weights

    if first is None and (within is not None or then is not None):
        raise NasError("--within and --then belong to --first, which is not given", "such as --first accuracy")
    if weigh is not None and first is not None:
        raise NasError("--weigh and --first are two ways to choose", "give one of them")
    if weigh is not None:
        return Weights.parse(weigh)
    return None if first is None else First(first, within or 0.0, then)


def _normalised(
    baseline: Path | None, mean: str | None, std: str | None, picture: Path | None
) -> tuple[str, str] | None:
    """The normalisation of the present model as it was typed, once the options about it are seen to agree."""
    if picture is not None:
        check_picture(picture)
    given = {"--baseline-mean": mean, "--baseline-std": std}
    named = [name for name, value in {**given, "--picture": picture}.items() if value is not None]
    if baseline is None and named:
        raise NasError(f"{named[0]} belongs to --baseline, which is not given", "name your present model's file")
    if (mean is None) != (std is None):
        raise NasError("--baseline-mean and --baseline-std go together", "give both, or neither")
    return None if mean is None or std is None else (mean, std)


def _test_scores(study: Study, choice: Choice, data: _Data) -> tuple[Mapping[str, Quantity], str]:
    """Of the pick: the study's, or, where the search has not confirmed its front, scored now; and else why not."""
    present = study.test_scores.get(choice.record.number, {})
    if present:
        return present, ""
    if (dataset := data.or_none()) is None:
        return {}, data.problem
    from nas.deploy import scores_on_test

    try:
        return scores_on_test(study, choice.record, dataset.test, choice.target), ""
    except NasError as error:  # the choice stands all the same; a deployment is refused for the same reason
        return {}, str(error)

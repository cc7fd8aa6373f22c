"""Makes further forms of a deployed network, and lets through only what gives what the model's file gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from nas.artifact import open_session, probabilities
from nas.compression import made_on_the_graph
from nas.data.dataset import Split
from nas.deploy.deployment import Deployment
from nas.deploy.further import FILES_OF, OPENVINO, PROGRAM, TITLES, Further, FurtherFile
from nas.deploy.openvino_ir import outputs_of_ir, write_ir
from nas.design import Design
from nas.errors import UnsupportedError
from nas.serving import WRONG_BY, Outputs
from nas.store import write_atomically
from nas.target import TORCH_PROGRAM, Target, usable_cores
from nas.wording import choice_words, listing

# Makes the trial's float network a torch program; in a module that may load torch (``nas.trial_program``).
MakeProgram = Callable[[], bytes]

COMPARED_IMAGES = 512

# How far a class probability may lie from the model's where both compute in floats: sums in another order. With
# weights or activations of fewer bits, a value on the edge between two steps may fall to either side; then so many
# images must get the same class.
FLOAT_DIFFERENCE = 1e-3
SAME_CLASS = 0.98


@dataclass(frozen=True)
class Also:
    """What further forms are made with.

    Args:
        forms: Which, of ``nas.deploy.further.FILES_OF``.
        program: Makes the torch program.
        validation: What each form is compared on.
        outputs: Runs torch programs.
    """

    forms: Sequence[str]
    program: MakeProgram | None
    validation: Split
    outputs: Outputs

    def __call__(self, folder: Path, deployment: Deployment) -> tuple[Further, ...]:
        """Writes the forms into a folder that holds the model's file, and compares each with it.

        Raises:
            UnsupportedError: A form cannot be made of this network here, or gives something else.
        """
        if not self.forms:
            return ()
        model = folder / deployment.serving.model_file
        some = Split(self.validation.images[:COMPARED_IMAGES], self.validation.labels[:COMPARED_IMAGES])
        expected = probabilities(open_session(model.read_bytes(), usable_cores()), some.images)
        return tuple(self._made(form, model, deployment, some, expected) for form in self.forms)

    def _made(self, form: str, model: Path, deployment: Deployment, some: Split, expected: np.ndarray) -> Further:
        paths = [model.parent / name for name in FILES_OF[form]]
        if form == OPENVINO:
            maker = write_ir(model, paths[0])
        else:
            write_atomically(paths[0], self._program())
            maker = f"torch {metadata.version('torch')}"
        given = run_form(form, model.parent, some.images, self.outputs)
        files = tuple(FurtherFile.of(path) for path in paths)
        return compared(form, files, maker, deployment.design, some, expected, given)

    def _program(self) -> bytes:
        if self.program is None:
            raise UnsupportedError("nothing was given to make a torch program with", "leave out the form 'program'")
        return self.program()


def run_form(form: str, folder: Path, images: np.ndarray, outputs: Outputs) -> list[np.ndarray]:
    """Class probabilities of images (N×classes) by a further form, once for each way of running it that may differ.

    Args:
        form: One of ``nas.deploy.further.FILES_OF``.
        folder: The deployment's.
        images: As the model takes them.
        outputs: Runs torch programs.

    Raises:
        UnsupportedError: The runtime is missing here, or cannot run it.
    """
    path = folder / FILES_OF[form][0]
    if form == OPENVINO:
        return outputs_of_ir(path, images)
    return [outputs(path.read_bytes(), Target("torch", "cpu", 1, 1), images)]


def check_forms(forms: Sequence[str], design: Design, form: str) -> None:
    """Refuses what is known to be impossible before anything is written.

    Args:
        forms: What is asked for.
        design: Of the network.
        form: Of the model's own file, see ``nas.target``.

    Raises:
        UnsupportedError: A form would be another network, or is the model's own.
    """
    if forms and form == TORCH_PROGRAM:
        raise UnsupportedError(
            f"the {listing([TITLES[name] for name in forms])} is unsupported here: torch serves this trial, and its "
            "model is a torch program already",
            "choose another --target, whose model is an ONNX file, or leave out --also",
        )
    left_out = made_on_the_graph(design.compression)
    if PROGRAM in forms and left_out:
        choices = listing([choice_words(name) for name in left_out])
        raise UnsupportedError(
            f"the torch program is unsupported for this trial: it would be the float network, without {choices}",
            "leave out --also program, or pick a trial without",
        )


def compared(
    form: str,
    files: tuple[FurtherFile, ...],
    maker: str,
    design: Design,
    some: Split,
    expected: np.ndarray,
    given: Sequence[np.ndarray],
) -> Further:
    """What a form makes of images beside what the model's file makes of them; the worst of several ways of running it.

    Raises:
        UnsupportedError: It makes something else of them.
    """
    rows = min(given, key=lambda rows: (_accuracy(rows, some), -float(np.abs(rows - expected).max())))
    same = min(float((rows.argmax(1) == expected.argmax(1)).mean()) for rows in given)
    difference = max(float(np.abs(rows - expected).max()) for rows in given)
    accuracy, whole = _accuracy(rows, some), _accuracy(expected, some)
    in_floats = not made_on_the_graph(design.compression)
    is_close = difference <= FLOAT_DIFFERENCE if in_floats else same >= SAME_CLASS
    if not (is_close and accuracy >= whole - WRONG_BY):  # also where a difference is NaN
        raise UnsupportedError(
            f"as {TITLES[form]} the network gives something else than its ONNX file: another class for "
            f"{1 - same:.1%} of {len(some)} images, probabilities up to {difference:.2g} apart, accuracy "
            f"{accuracy:.4f} instead of {whole:.4f}",
            f"leave out --also {form}",
        )
    return Further(form, files, maker, len(some), same, difference, accuracy)


def _accuracy(rows: np.ndarray, some: Split) -> float:
    return float((rows.argmax(1) == some.labels).mean())

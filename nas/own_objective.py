"""A person's own objectives: what Python functions of theirs make of a trial's file. Needs no torch.

A function takes the path of the file, named as it would be deployed (``model.onnx``, ``model.pt2``), and, where it has
a second parameter, the manifest as a dictionary (input, class names). It gives a number: a cost from 0 on, or a quality
from 0 to 1. It is called once for each trial that is evaluated to its end, in the process of the search, after latency
was measured; what it does with a copy of the file is its own matter.
"""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import RecipeError
from nas.objectives import KINDS, QuantityKind
from nas.outcome import How, Quantity
from nas.own_code import LoadedFunction
from nas.recipe import Recipe
from nas.recipe_sections import OwnObjectiveConfig
from nas.target import TORCH_PROGRAM


class OwnObjectives:
    """The own objectives of one recipe, loaded: their files are run once, here.

    Args:
        recipe: What declares them.

    Raises:
        OwnCodeError: A file is missing or cannot be run, or defines no such function.
        RecipeError: A file is not the one that the recipe was read with.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.functions = {name: _loaded(own) for name, own in recipe.own_objectives.items()}

    def __bool__(self) -> bool:
        return bool(self.functions)

    def quantities(self, content: bytes, form: str, manifest: Mapping[str, Any]) -> list[Quantity]:
        """Every own objective of one artifact.

        Args:
            content: The artifact's file, in the form that serves it.
            form: That form, see ``nas.target``.
            manifest: The artifact's, as JSON.

        Raises:
            OwnCodeError: A function raised, or gave no number, NaN, infinity, or one that is out of bounds.
        """
        return [self._quantity(name, content, form, manifest) for name in self.functions]

    def _quantity(self, name: str, content: bytes, form: str, manifest: Mapping[str, Any]) -> Quantity:
        function, kind = self.functions[name], KINDS[name]
        with tempfile.TemporaryDirectory(prefix="nas-own-objective-") as folder:  # a copy: the store's stays as it is
            path = Path(folder) / ("model.pt2" if form == TORCH_PROGRAM else "model.onnx")
            path.write_bytes(content)
            arguments = (path, dict(manifest))[: _parameters(function)]
            value = _number(function, kind, function(*arguments))
        return Quantity(name, value, kind.unit, How.MEASURED, detail={"source": function.label})


def _loaded(own: OwnObjectiveConfig) -> LoadedFunction:
    source = own.function(Path.cwd())
    function = source.load()
    if own.sha256 is not None and source.digest != own.sha256:
        raise RecipeError(
            f"{source.label} changed since the study began: its numbers would not compare",
            "put it back as it was, or search anew with --fresh, by a recipe of your own",
        )
    return function


def _parameters(function: LoadedFunction) -> int:
    """How many arguments the function is given: the file, and the manifest where it takes that."""
    try:
        parameters = inspect.signature(function.function).parameters.values()
    except (TypeError, ValueError):  # of a built-in, which does not say
        return 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    return 2 if len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in positional) else 1


def _number(function: LoadedFunction, kind: QuantityKind, given: Any) -> float:
    """What the function gave, as a number; a NumPy or torch scalar is one."""
    item = given.item() if hasattr(given, "item") and getattr(given, "ndim", 1) == 0 else given
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise function.refuse(
            f"must give a number, but gave {'None' if given is None else f'a {type(given).__name__}'}"
        )
    try:
        value = float(item)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise function.refuse(f"must give a finite number, but gave {value}")
    if kind.maximise and not 0 <= value <= 1:
        raise function.refuse(
            f"must give a share from 0 to 1, as it is to be maximised, but gave {value:g}",
            "divide it by what it is at most, or write it as a cost that is to be minimised",
        )
    if value < 0:
        raise function.refuse(f"must give 0 or more, as a cost, but gave {value:g}", "add a constant")
    return value

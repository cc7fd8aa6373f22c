"""The recipe and the search space that ``nas compress`` writes: readable, to be edited, run as any other study."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nas.errors import NasError, StudyError
from nas.own_module import INCLUDED, OwnModule
from nas.recipe import Recipe, load_recipe, parse_recipe
from nas.space import SearchSpace, load_space, parse_space

EPOCHS_OF_THE_UNTRAINED = 10
# Fine-tuning is short: smaller batches take more steps in it. A ResNet-18 on 8,000 images, half of its channels pruned,
# came to 80.0 % in two epochs of batches of 128, and to 81.3 % in two of 64 (84.1 % before).
BATCH_SIZE = 64

COMPRESSION = """\
compression:
  # Whole channels go; what remains is trained on for the recipe's finetune_epochs.
  pruning_ratio: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
  pruning_criterion: {values: [l1, taylor], when: {pruning_ratio: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}}
  # The network as it is teaches what becomes of it.
  distillation: [false, true]
  # A codebook makes the file smaller, not faster.
  weight_sharing: [none, kmeans]
  codebook_bits: {values: [4, 5, 6, 8], when: {weight_sharing: [kmeans]}}
  weight_bits: {values: [32, 16, 8, 4], when: {weight_sharing: [none]}}
  activation_bits: {values: [32, 8], when: {weight_bits: [8, 4]}}
  calibration: {values: [minmax, entropy, percentile], when: {activation_bits: [8]}}
  quantisation_aware: {values: [false, true], when: {weight_bits: [8, 4]}}

# What is tried right after the network as it is, before the sampler proposes anything.
first:
  - {weight_bits: 8, activation_bits: 8}
  - {pruning_ratio: 0.5, pruning_criterion: taylor, distillation: true}
  - {pruning_ratio: 0.5, pruning_criterion: taylor, distillation: true, weight_bits: 8, activation_bits: 8}
  - {pruning_ratio: 0.3, pruning_criterion: taylor, distillation: true, weight_bits: 8, activation_bits: 8}
  - {weight_bits: 4, activation_bits: 8, quantisation_aware: true}
  - {weight_sharing: kmeans, codebook_bits: 4}
"""


@dataclass(frozen=True)
class Options:
    """What of a study ``nas compress`` lets one say; the rest is to be edited in its files.

    Args:
        data: The recipe's ``data`` section.
        target: What latency is measured on.
        trials: How many at most; None for no limit.
        minutes: How long at most; None for no limit.
        finetune_epochs: Epochs of training after a compression that costs accuracy.
        learning_rate: Of that training.
    """

    data: Mapping[str, Any]
    target: str
    trials: int | None
    minutes: float | None
    finetune_epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Files:
    """Where a study's recipe and space lie, and its folder."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.yaml"

    @property
    def space(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.space.yaml"


def write_study(files: Files, module: OwnModule, options: Options, like: SearchSpace | None) -> list[Path]:
    """Writes recipe and space, unless they are there already and mean the same.

    Args:
        files: Where to.
        module: The network.
        options: What the command line says.
        like: Whose compression choices to take; None for a set that suits most.

    Returns:
        The files that were written.

    Raises:
        NasError: A choice cannot be made for the network, or a file is there that means something else.
    """
    texts = {files.space: space_text(files, module, like), files.recipe: recipe_text(files, module, options)}
    where = files.folder.resolve().parent
    space = parse_space(files.space.stem, yaml.safe_load(texts[files.space]), where)
    recipe = parse_recipe(yaml.safe_load(texts[files.recipe]), str(files.recipe))
    if files.space.exists():
        _refuse_another(files.space, _same_space(files.space, space), files)
    if files.recipe.exists():
        _refuse_another(files.recipe, _same_recipe(files.recipe, recipe), files)
    missing = [path for path in texts if not path.exists()]
    for path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    return missing


def _same_space(path: Path, space: SearchSpace) -> bool:
    try:
        return load_space(str(path)).to_json() == space.to_json()
    except NasError:
        return False


def _same_recipe(path: Path, recipe: Recipe) -> bool:
    """Whether the file's recipe gives the same results; its budget may be another."""
    try:
        there = load_recipe(path)
    except NasError:
        return False
    where = recipe.data.path
    return not there.differences(recipe) and there.data.path == (where and path.resolve().parent / where)


def _refuse_another(path: Path, is_same: bool, files: Files) -> None:
    if not is_same:
        raise StudyError(
            f"{path} is there already and says something else than this command",
            f"run it as it is with 'nas search {files.recipe}', name another --output, or delete it",
        )


def space_text(files: Files, module: OwnModule, like: SearchSpace | None) -> str:
    """The space file: the network as it is, and the choices of its compression."""
    place = _path(module.place, files) if module.is_file else module.place
    section: dict[str, Any] = {"source": f"{place}:{module.callable}"}
    if module.arguments:
        section["arguments"] = dict(module.arguments)
    if module.weights is not None:
        section["weights"] = module.weights if module.weights == INCLUDED else _path(module.weights, files)
    if module.mean is not None and module.std is not None:
        section |= {"mean": list(module.mean), "std": list(module.std)}
    lines = [f"  {name}: {_flow(value)}" for name, value in section.items()]
    description = _flow(f"What compression makes of {module.label}, whose architecture stays as it is.")
    head = ["family: module", f"description: {description}", "", "module:", *lines, "", ""]
    return "\n".join(head) + (COMPRESSION if like is None else _compression_of(like))


def recipe_text(files: Files, module: OwnModule, options: Options) -> str:
    """The recipe file."""
    data = dict(options.data)
    if "path" in data:
        data["path"] = _path(data["path"], files)
    budget: dict[str, Any] = {}
    if options.trials is not None:
        budget["trials"] = options.trials
    if options.minutes is not None:
        budget["minutes"] = options.minutes
    if not module.is_trained:
        budget["epochs"] = EPOCHS_OF_THE_UNTRAINED
    budget["finetune_epochs"] = options.finetune_epochs
    sections = {
        "data": data,
        "space": files.space.name,
        "objectives": ["accuracy", f"latency_ms@{options.target}", "size_bytes"],
        "budget": budget,
        "training": {"batch_size": BATCH_SIZE, "finetune_learning_rate": options.learning_rate},
    }
    text = f"# What compression makes of {module.label}, in speed, size and accuracy.\n"
    for name, value in sections.items():
        if isinstance(value, dict):
            text += f"{name}:\n" + "".join(f"  {key}: {_flow(inner)}\n" for key, inner in value.items()) + "\n"
        else:
            text += f"{name}: {_flow(value)}\n\n"
    return text.rstrip() + "\n"


def _compression_of(space: SearchSpace) -> str:
    """The compression choices of another space, and those of its first designs."""
    lines = ["compression:"]
    for choice in space.choices:
        if choice.group == "compression":
            when = {name: list(values) for name, values in choice.when.items()}
            value = {"values": list(choice.values), "when": when} if when else list(choice.values)
            lines.append(f"  {_flow(choice.name)}: {_flow(value)}")
    first = [f"  - {_flow(dict(design.compression))}" for design in space.first]
    return "\n".join([*(lines if len(lines) > 1 else []), *(["", "first:", *first] if first else [])]) + "\n"


def _path(path: str, files: Files) -> str:
    """A path as the study's files spell it: relative to them where both lie below the current folder."""
    here, there, folder = Path.cwd().resolve(), Path(path).resolve(), files.folder.resolve().parent
    near = there.is_relative_to(here) and folder.is_relative_to(here)
    return os.path.relpath(there, folder) if near else str(there)


def _flow(value: object) -> str:
    """A value in YAML on one line; floats as YAML 1.1 reads them again."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
    return text.removesuffix("...\n").strip()

"""The calls that the API begins with: search, open, load."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nas
from nas import study as studies
from nas.api.deployment import Deployment
from nas.api.study import Study
from nas.deploy import load_deployment
from nas.errors import RecipeError
from nas.recipe import Recipe, load_recipe, parse_recipe, resolved


def search(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    folder: str | Path | None = None,
    progress: bool = True,
    fresh: bool = False,
) -> Study:
    """Searches to the end of the recipe's budget, or takes up the study in the folder, as ``nas search`` does.

    Interrupted, it loses nothing that was finished: the same call goes on from there.

        study = nas.search("studies/digits.yaml")
        study = nas.search({"data": {"source": "digits"}, "space": "mlp", "budget": {"trials": 3, "epochs": 1}}, "mine")

    Args:
        recipe: A recipe's file, or what stands in one; paths in a mapping start at the working directory.
        folder: The study's folder; by default the recipe's path less its suffix.
        progress: Show a bar, in a notebook or terminal.
        fresh: Delete the study that lies in the folder, and start over.

    Raises:
        NasError: The recipe, space, data or folder cannot be used; nothing was changed.
    """
    if nas.torch_came_first:
        warnings.warn(
            "torch was imported before nas, so training may be slow while others use this machine; import nas first",
            stacklevel=2,
        )
    parsed, path = _recipe(recipe, folder)  # before torch is loaded, which takes seconds

    from nas.progress_bar import ProgressBar
    from nas.search.run import search as run

    with ProgressBar(progress) as bar:
        study, ended = run(parsed, path, bar, fresh=fresh)
    return Study(study, ended.why)


def open(folder: str | Path) -> Study:
    """Opens a study that was searched before, or is at this moment.

        study = nas.open("studies/digits")

    Raises:
        StudyError: There is none, or a file of it is damaged.
    """
    return Study(studies.Study.open(Path(folder)))


def load(folder: str | Path) -> Deployment:
    """Loads a deployment, checked to be the one that was written.

        deployment = nas.load("deploy")

    Raises:
        ArtifactError: There is none, or its model was changed.
    """
    return Deployment(load_deployment(Path(folder)))


def _recipe(recipe: str | Path | Mapping[str, Any] | Recipe, folder: str | Path | None) -> tuple[Recipe, Path]:
    """The recipe, checked, and the study's folder."""
    if isinstance(recipe, str | Path):
        path = Path(recipe)
        return load_recipe(path), Path(folder) if folder is not None else path.with_suffix("")
    if folder is None:
        raise RecipeError("a recipe that is no file needs a folder for its study", "nas.search(recipe, 'studies/mine')")
    if isinstance(recipe, Mapping):
        recipe = parse_recipe(dict(recipe), "the recipe")
        recipe = recipe.model_copy(update=resolved(recipe, Path.cwd()))
    return recipe, Path(folder)

"""Finds the fastest network that is accurate enough: sample, train, compress, measure, pick, deploy.

    import nas

    study = nas.search("studies/digits.yaml")
    picked = study.pick(min_accuracy=0.97)
    deployment = picked.deploy("deploy")
    deployment.predict(images).labels

``nas.open`` opens a study that was searched before, ``nas.load`` a deployment; see ``nas.api``. Import this package
before torch.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import Deployment, Picked, Predictions, Study, load, open, search

__version__ = "0.1.0"
__all__ = ["Deployment", "Picked", "Predictions", "Study", "__version__", "load", "open", "search"]

# OpenMP's threads spin while they wait for each other; on a machine that others use too, a thread that waits then takes
# the core from the one it waits for, and training slows down up to fifty times. Sleeping costs next to nothing. This
# must be in the environment before torch is first imported; whoever sets the variable is obeyed.
torch_came_first = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """The calls of ``nas.api``, imported when one is first used: importing this package alone costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'nas' has no attribute '{name}'")
    if name == "search":
        return importlib.import_module("nas.search")
    return getattr(importlib.import_module("nas.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Search(ModuleType):
    """The package ``nas.search``, which is also the call of that name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return importlib.import_module("nas.api").search(*args, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a part of nas.search makes that package an attribute of this one; it stays a call all the same.
        if name == "search" and isinstance(value, ModuleType):
            value.__class__ = _Search
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

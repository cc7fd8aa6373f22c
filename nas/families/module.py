"""Family ``module``: a person's own network, from a Python file or an importable module, with its trained weights.

Its architecture stays as it is; only compression is searched. Building it runs the person's code, as importing it
would; weights are read without running anything.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from nas.design import sha256_of
from nas.errors import ModuleError, unknown_name
from nas.families.outputs import drop_idle_layers, give_logits_alone
from nas.families.weights import digest_of_weights, load_weights
from nas.own_code import explained, importable
from nas.own_module import INCLUDED, OwnModule
from nas.safety.programs import announce_source
from nas.store import sha256_bytes


@dataclass(frozen=True)
class OwnNetwork:
    """A person's own network, built once and checked against the data.

    Args:
        module: Where it comes from.
        trained: The network with its weights, in evaluation mode on the CPU; None where it is to be trained.
        digest: SHA-256 of all that it is made of: source files, arguments, weights, normalisation. Where the files lie
            has no part in it.
        dropped: Names of layers that the logits do not depend on, such as an auxiliary head; they are left out.
        build: Gives a network to train, with the weights that the person's code draws from torch's global generator;
            raises a ModuleError where that code raises.
    """

    module: OwnModule
    trained: nn.Module | None
    digest: str
    dropped: tuple[str, ...]
    build: Callable[[], nn.Module]


def load_own(module: OwnModule, input_shape: tuple[int, int, int], classes: int) -> OwnNetwork:
    """Builds a person's own network, with its weights, and checks that it fits the data.

    Args:
        module: Where it comes from.
        input_shape: (C, H, W) of one image.
        classes: How many classes the data has.

    Raises:
        ModuleError: The source or what it names is missing, the code raises or gives no ``nn.Module``, the weights do
            not fit, or the network does not take the data's images or gives another number of classes.
    """
    made = _finder(module)
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))

    def construct() -> nn.Module:
        network = plain(made(), module.label)
        give_logits_alone(network, images, classes, module.label)
        return network

    def build() -> nn.Module:
        network = construct()
        drop_idle_layers(network, images)
        return network

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)  # so that a network that comes without weights is the same network every time
        network = construct()
    if module.weights is not None and module.weights != INCLUDED:
        load_weights(network, Path(module.weights), module.label)
    dropped = drop_idle_layers(network, images)
    digest = _digest(module, network)
    return OwnNetwork(module, network.eval() if module.is_trained else None, digest, dropped, build)


def _finder(module: OwnModule) -> Callable[[], object]:
    """What gives the network each time that it is called; the person's file is run once, here."""
    folder = Path(module.place).parent if module.is_file else Path.cwd()
    with importable(folder):
        namespace = _run_file(Path(module.place)) if module.is_file else _import(module.place)
    if not hasattr(namespace, module.callable):
        own = [name for name, value in vars(namespace).items() if _is_offered(name, value, namespace)]
        raise ModuleError(unknown_name(f"callable of {Path(module.place).name}:", module.callable, own))
    found = getattr(namespace, module.callable)
    if isinstance(found, nn.Module) and module.arguments:
        raise ModuleError(f"{module.label} is a network already, which takes no arguments", "leave them out")
    if isinstance(found, nn.Module):
        return lambda: found
    if not callable(found):
        raise ModuleError(
            f"{module.label} must be a function or class that gives a network, but is a {type(found).__name__}"
        )

    def call() -> object:
        try:
            with importable(folder):
                return found(**module.arguments)
        except (Exception, SystemExit) as error:
            hint = "give its arguments by name" if isinstance(error, TypeError) else ""
            raise ModuleError(f"{module.label} raised {explained(error)}", hint) from error

    return call


def _run_file(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own, past Python's cache of compiled files."""
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        near = sorted(other.name for other in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise ModuleError(
            f"there is no Python file {path}", f"Python files there: {', '.join(near)}" if near else ""
        ) from None
    except OSError as error:
        raise ModuleError(f"{path} cannot be read: {error.strerror}") from error
    announce_source(str(path))
    name = f"own_module_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py has a loader
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace  # dataclasses and inspect look it up there
    try:
        exec(compile(source, str(path), "exec"), vars(namespace))
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ModuleError(f"{path} cannot be run: {explained(error)}") from error
    return namespace


def _import(name: str) -> ModuleType:
    announce_source(name)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        hint = "install it beside nas, or name a Python file" if isinstance(error, ModuleNotFoundError) else ""
        raise ModuleError(f"the module {name} cannot be imported: {explained(error)}", hint) from error


def _is_offered(name: str, value: object, namespace: ModuleType) -> bool:
    """Whether a name is one that a person may have meant: what the file itself defines."""
    return callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == namespace.__name__


def plain(made: object, label: str) -> nn.Module:
    """A person's network as everything here takes it: float32, on the CPU, all parameters to be trained.

    Raises:
        ModuleError: It is no network, or cannot be copied.
    """
    if isinstance(made, nn.DataParallel):
        made = made.module
    if not isinstance(made, nn.Module):
        raise ModuleError(f"{label} must give an nn.Module, but gave {type(made).__name__}")
    try:
        network: nn.Module = copy.deepcopy(made).cpu().float()
    except Exception as error:  # whatever the person's own __deepcopy__ or a tensor in the graph raises
        raise ModuleError(f"{label} cannot be copied: {explained(error)}") from error
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    return network


def _digest(module: OwnModule, network: nn.Module) -> str:
    return sha256_of(
        {
            "callable": module.callable,
            "arguments": dict(module.arguments),
            "sources": sorted(_sources(module, network)),
            "weights": digest_of_weights(network) if module.is_trained else None,
            "mean": module.mean,
            "std": module.std,
        }
    )


def _sources(module: OwnModule, network: nn.Module) -> set[str]:
    """Digests of the files that the network's own code stands in: its source's, and those of its layers' classes.

    Torch's own are left out, since the version of torch is in every key.
    """
    paths: set[str | None] = (
        {module.place} if module.is_file else {getattr(sys.modules[module.place], "__file__", None)}
    )
    for kind in {type(layer) for layer in network.modules()}:
        if kind.__module__.split(".")[0] != "torch":
            with suppress(TypeError):  # made at run time, without a file
                paths.add(inspect.getsourcefile(kind))
    return {sha256_bytes(Path(path).read_bytes()) for path in paths if path is not None and Path(path).is_file()}

"""Which stage of a network a layer belongs to, for compression choices that a single stage may have for itself.

A stage is a part of the network, named as its module is: ``stem``, ``stage2``, ``head``, ``layer1.0``, ``features.3``.
Layers are known by their dotted path in the network (``features.stage2.0.body.3``); nodes of an exported graph by a
name that repeats parts of it, which ``path_of_node`` turns back into the path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from nas.errors import UnsupportedError, unknown_name

# The exporter's wrapper holds the network under this name (``nas.compress.export``), so every node's path starts so.
EXPORTED_AS = "model"
# What holds the stages of the families here (``nas.families.blocks.Network``); a stage's name may leave it out.
TRUNK = "features"
# How deep the parts of a network go that an error message offers.
OFFERED_DEPTH = 2


def stage_of(path: str, stages: Collection[str]) -> str | None:
    """The most specific of the named stages that a layer lies in; None where it lies in none.

    A stage holds a layer where the layer's path begins with it, whole components each: ``layer1`` and ``layer1.0`` both
    hold ``layer1.0.conv1``; ``layer`` and ``conv1`` do not. The trunk of the families here may be left out: ``stage2``
    is ``features.stage2``. The longest wins.

    Args:
        path: The layer's dotted path.
        stages: The stages to choose from.
    """
    return max((stage for stage in stages if _holds(stage, path)), key=_length, default=None)


def path_of_node(name: str) -> str:
    """The dotted path, in the network, of the module whose forward made a node of an exported graph.

    The TorchScript exporter names a node after the modules that were running, outermost first, each by the last part
    of its own path that is no number and what follows it: ``/model/features/stage1/stage1.0/body/body.3/Conv`` →
    ``features.stage1.0.body.3``. A node that no submodule made (the final ``/Softmax``) has the empty path.

    Modules that are never called themselves leave no trace: of an ``nn.ModuleDict`` the name is lost
    (``gates['a']`` → ``a``), of an ``nn.ModuleList`` it stays (``layers[0]`` → ``layers.0``).
    """
    parts: list[str] = []
    previous = ""
    for part in name.split("/")[1:-1]:
        # A child with a number for a name repeats its parent: of ``stage1.0`` only ``0`` is new after ``stage1``.
        repeats = bool(previous) and part.startswith(previous + ".")
        parts += (part[len(previous) + 1 :] if repeats else part).split(".")
        previous = part
    return ".".join(parts[1:] if parts[:1] == [EXPORTED_AS] else parts)


def check_stages(stages: Iterable[str], paths: Collection[str]) -> None:
    """Makes sure that each stage that a design names holds a layer of the network.

    Args:
        stages: The stages that have a value of their own.
        paths: Dotted paths of the network's layers that have weights.

    Raises:
        UnsupportedError: A stage holds none; the message names it, the closest part and all parts near the top.
    """
    for stage in stages:
        if not any(_holds(stage, path) for path in paths):
            raise UnsupportedError(
                unknown_name("stage of the network", stage, parts_of(paths)),
                f"a stage is a part of the network; where an architecture lacks it, give '{stage}.…' a when",
            )


def parts_of(paths: Iterable[str]) -> tuple[str, ...]:
    """The parts near the top of a network, by the shortest name that ``stage_of`` knows them by, in their order."""
    parts: dict[str, None] = {}
    for path in paths:
        components = path.split(".")
        for depth in range(1, min(OFFERED_DEPTH, len(components)) + 1):
            parts[short_name(".".join(components[:depth]))] = None
    return tuple(part for part in parts if part)


def short_name(path: str) -> str:
    """The shortest name of a stage: its path, without the trunk unless a number would be left."""
    trunk, _, rest = path.partition(".")
    return rest if trunk == TRUNK and rest and not rest[0].isdigit() else path


def _holds(stage: str, path: str) -> bool:
    return any(stage and f"{path}.".startswith(f"{start}{stage}.") for start in ("", f"{TRUNK}."))


def _length(stage: str) -> tuple[int, str]:
    """By components, the trunk not counted; then by name, so that the choice does not depend on their order."""
    return len(short_name(stage).split(".")), stage

"""Names of an ONNX file's nodes, short enough for a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nas.measure.complexity import LayerComplexity


def short_names(layers: Sequence[LayerComplexity]) -> list[str]:
    """A name for each layer, other than those of its kind: ``stem.0`` for ``/model/features/stem/stem.0/Conv``.

    PyTorch names a node by the path of modules that it lies in and its operator. Of that path stays the last module,
    with the nearest one around it that tells it apart where that takes one (``stage1.0/gate.0``), or all if none does.
    The operator goes where the layer's kind says the same. Names without a path stay as they are.
    """
    spellings = [_spellings(layer) for layer in layers]
    names = [candidates[0] for candidates in spellings]
    for step in range(1, max(map(len, spellings), default=1)):
        uses = Counter(zip(names, (layer.kind for layer in layers), strict=True))
        names = [
            name if uses[name, layer.kind] == 1 else candidates[min(step, len(candidates) - 1)]
            for name, layer, candidates in zip(names, layers, spellings, strict=True)
        ]
    return names


def _spellings(layer: LayerComplexity) -> list[str]:
    """What a layer may be called, the shortest first and the whole path last."""
    if not layer.name.startswith("/"):
        return [layer.name]
    *path, operator = layer.name.strip("/").split("/")
    if not path:
        return [operator]
    # Of a module and its own child (body/body.0) the child's name says both.
    inner = [*path[1:], operator]
    path = [part for part, within in zip(path, inner, strict=True) if not within.startswith(f"{part}.")]
    around, last = path[:-1], path[-1]
    names = [last, *(f"{module}/{last}" for module in reversed(around)), "/".join(path)]
    return [name if operator == layer.kind else f"{name} {operator}" for name in names]

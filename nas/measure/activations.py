"""What a network keeps in memory while it runs one image, and how many bytes its operators read and write.

Activations are all tensors that are no parameters or buffers: the image, what layers give, what functions between them
give, and what an operator makes besides and drops (the positions of a max pooling). Their peak is the largest sum of
those alive at once while the eager network runs, in evaluation mode and without gradients, the image included all the
while; an operator's scratch memory inside, which torch does not tell of, is not. Of the network as it is given: one
image (batch 1) and float32, if that is what its parameters are.

A runtime that fuses layers or plans its memory needs less; the number compares networks, not runtimes.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Memory:
    """What one image costs.

    Args:
        peak_bytes: The most that activations take at once.
        moved: Bytes that operators read (weights included) and write, in the layer that ran them; views move nothing.
    """

    peak_bytes: int
    moved: Mapping[str, int]


class LayerStack:
    """Knows which layer of a network runs, by hooks on every layer, and what layers gave.

    Args:
        network: Is given the hooks, for good.
    """

    def __init__(self, network: nn.Module) -> None:
        self._running = [""]
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self.output_bytes: dict[str, int] = {}
        for name, module in network.named_modules():
            module.register_forward_pre_hook(self._enter(name))
            module.register_forward_hook(self._leave(name))

    @property
    def innermost(self) -> str:
        """The layer that runs, none of whose own layers does."""
        return self._running[-1]

    def reset(self) -> None:
        """Before another run, since one that failed leaves layers behind."""
        self._running = [""]

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._running.append(name)
            self.output_shapes.setdefault(name, ())

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._running.pop()
            first = output[0] if isinstance(output, tuple | list) and output else output
            self.output_shapes[name] = tuple(first.shape) if isinstance(first, torch.Tensor) else ()
            self.output_bytes[name] = sum(_bytes(tensor) for tensor in _tensors(output))

        return hook


def watch_memory(network: nn.Module, image: torch.Tensor, stack: LayerStack) -> Memory:
    """Runs the network once and tells what that took.

    Args:
        network: In evaluation mode.
        image: One image, on the network's device.
        stack: Of this network.
    """
    watch = _MemoryWatch(network, image, stack)
    with torch.no_grad(), watch:
        network(image)
    return Memory(watch.peak, dict(watch.moved))


class _MemoryWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator's tensors and, by weak references to their storages, when one is freed."""

    def __init__(self, network: nn.Module, image: torch.Tensor, stack: LayerStack) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved: dict[str, int] = defaultdict(int)
        self.peak = 0
        self._stack = stack
        self._alive: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._now = 0
        # Held, so that no activation gets the identity of one that is gone.
        self._lasting = [tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())]
        self._lasting_ids = {id(storage) for storage in self._lasting}
        self._see(image)
        self.peak = self._now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        written = list(_tensors(outputs))
        for tensor in written:
            self._see(tensor)
        self.peak = max(self.peak, self._now)
        read = list(_tensors((args, kwargs or {})))
        if func._schema.is_mutable or not _is_view(read, written):
            self.moved[self._stack.innermost] += sum(_bytes(tensor) for tensor in (*read, *written))
        return outputs

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._alive or key in self._lasting_ids:
            return
        size = storage.nbytes()
        self._alive[key] = (size, weakref.ref(storage, lambda _: self._free(key)))
        self._now += size

    def _free(self, key: int) -> None:
        size, _ = self._alive.pop(key)
        self._now -= size


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in what a layer or an operator takes or gives, dense ones alone: others have no storage to see."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided:
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _bytes(tensor: torch.Tensor) -> int:
    """A tensor's own bytes; of one that repeats itself (``expand``) those that are there."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _is_view(read: list[torch.Tensor], written: list[torch.Tensor]) -> bool:
    """Whether an operator that changes nothing in place gives other views of what it was given."""
    there = {id(tensor.untyped_storage()) for tensor in read}
    return all(id(tensor.untyped_storage()) in there for tensor in written)

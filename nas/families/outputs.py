"""What a person's own network gives: checked against the data, and brought to logits alone.

Other outputs, such as those of an auxiliary head or features for another use, are dropped, and so are the layers that
only they need.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import ModuleError
from nas.families.layout import keep_contiguous
from nas.own_code import explained


def give_logits_alone(network: nn.Module, images: Tensor, classes: int, label: str) -> None:
    """Checks what the network makes of images; where it gives more than logits, makes it give these alone.

    Of several outputs the first tensor of N×classes is taken, in evaluation and in training. That is done by a hook,
    so that layers keep their names.

    Args:
        network: In the state that its builder gave it; changed in place.
        images: A few of the data's shape, N×C×H×W.
        classes: How many classes the data has.
        label: What the network is called in messages.

    Raises:
        ModuleError: It does not run on such images, or gives no N×classes logits.
    """
    outputs = {False: _run(network.eval(), images, label), True: _run(copy.deepcopy(network).train(), images, label)}
    places: dict[bool, int] = {}
    for training, output in outputs.items():
        shape = (len(images), classes)
        found = [place for place, tensor in enumerate(_tensors(output)) if tuple(tensor.shape) == shape]
        if not found:
            raise ModuleError(*_wrong_output(output, classes, images, label))
        places[training] = found[0]
    _run_as_trained(network, images, label)
    logits = _tensors(outputs[False])[places[False]]
    if bool(((logits >= 0) & (logits <= 1)).all()) and torch.allclose(
        logits.sum(1), torch.ones(len(images)), atol=1e-4
    ):
        raise ModuleError(f"{label} gives probabilities, but must give logits", "leave its last softmax out")
    if not all(isinstance(output, Tensor) for output in outputs.values()):
        network.register_forward_hook(_OneOutput(places))


class _OneOutput:
    """A forward hook that keeps one tensor of several.

    Args:
        places: In training and in evaluation: which of all tensors in the output.
    """

    def __init__(self, places: Mapping[bool, int]) -> None:
        self.places = dict(places)

    def __call__(self, network: nn.Module, inputs: Any, output: Any) -> Tensor:
        return _tensors(output)[self.places[network.training]]


class Idle(nn.Module):
    """Stands for a layer whose output nothing depends on: hands on what it is given."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return next(iter((*inputs, *named.values())), None)


def drop_idle_layers(network: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Replaces layers with parameters that the logits do not depend on, neither in evaluation nor in training.

    Pruning would break them: they read channels that it takes for its own. The network is left as it is where it needs
    them to run, or gives other logits without them.

    Args:
        network: Gives logits alone; changed in place, left in evaluation mode.
        images: A few of the data's shape.

    Returns:
        The names of the layers that were dropped.
    """
    used = {name for mode in (False, True) for name in _used_parameters(network, images, mode)}
    idle = [name for name, layer in network.named_modules() if name and _is_idle(name, layer, used)]
    outermost = [name for name in idle if not any(name.startswith(f"{other}.") for other in idle)]
    if not outermost:
        return ()
    without = copy.deepcopy(network)
    for name in outermost:
        without.set_submodule(name, Idle())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            same = torch.equal(without.eval()(images), network.eval()(images))
            copy.deepcopy(without).train()(images)
    except Exception:  # the network's forward asks more of the layer than to be called
        return ()
    if not same:
        return ()
    for name in outermost:
        network.set_submodule(name, Idle())
    return tuple(outermost)


def _used_parameters(network: nn.Module, images: Tensor, training: bool) -> set[str]:
    """The names of the parameters that the logits depend on."""
    tried = copy.deepcopy(network).train(training)
    with torch.enable_grad(), torch.random.fork_rng(devices=()):
        logits = tried(images)
        if logits.requires_grad:
            logits.sum().backward()
    return {name for name, parameter in tried.named_parameters() if parameter.grad is not None}


def _is_idle(name: str, layer: nn.Module, used: set[str]) -> bool:
    own = [f"{name}.{parameter}" for parameter, _ in layer.named_parameters()]
    return bool(own) and used.isdisjoint(own)


def _run(network: nn.Module, images: Tensor, label: str) -> Any:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            return network(images)
    except Exception as error:  # whatever the network's forward raises
        channels, height, width = images.shape[1:]
        raise ModuleError(
            f"{label} cannot run on the data's images ({channels} channels of {height}×{width}): {explained(error)}"
        ) from error


def _run_as_trained(network: nn.Module, images: Tensor, label: str) -> None:
    """Runs the network as training and export do: on batches of any size, with channels last in memory.

    Where its forward needs contiguous tensors (``x.view(…)``) that is noted, and it trains on these.
    """
    try:
        _run_batches(network, images, torch.channels_last)
    except Exception:  # whatever the network's forward raises
        try:
            _run_batches(network, images, torch.contiguous_format)
        except Exception as error:
            raise ModuleError(
                f"{label} cannot run on batches of other sizes: {explained(error)}",
                "in its forward, write x.flatten(1) or x.reshape(len(x), -1), which take any number of images",
            ) from error
        keep_contiguous(network)


def _run_batches(network: nn.Module, images: Tensor, layout: torch.memory_format) -> None:
    """Runs a copy of the network on one image and on five."""
    tried = copy.deepcopy(network).to(memory_format=layout).eval()  # type: ignore[call-overload]
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        for batch in (images[:1], torch.cat([images, images, images[:1]])):
            tried(batch.contiguous(memory_format=layout))


def _tensors(output: Any) -> list[Tensor]:
    """All tensors in an output, in its order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [tensor for part in output for tensor in _tensors(part)]
    return []


def _wrong_output(output: Any, classes: int, images: Tensor, label: str) -> tuple[str, str]:
    """What is wrong with an output that holds no N×classes tensor, and how to mend it."""
    tensors = _tensors(output)
    if tensors and tensors[0].dim() == 2:
        return (
            f"{label} gives {tensors[0].shape[1]} classes, but the data has {classes}",
            "say so in its arguments, or replace its last layer",
        )
    given = " and ".join("×".join(map(str, tensor.shape)) for tensor in tensors) or type(output).__name__
    shape = "×".join(map(str, images.shape))
    return f"{label} must give {len(images)}×{classes} logits for {shape} images, but gives {given}", ""

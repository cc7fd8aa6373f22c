"""How much a channel matters: the criteria by which pruning decides which of a group's channels go.

Channels are pruned in *groups* of coupled layers (torch-pruning's dependency graph): a channel of a convolution goes
together with its batch norm's, with the weights of the next layers that read it, and with the same channel of every
layer that is added to it. A criterion gives each channel of a group one score, the sum over the layers of the group
that have weights of its kind, and the channels with the lowest scores go.

| criterion | score of a channel | source |
|---|---|---|
| l1, l2 | sum of absolute, of squared weights | Li et al., ICLR 2017, over the group as in DepGraph, CVPR 2023 |
| bn_scale | sum of absolute batch-norm scales | Liu et al., Network Slimming, ICCV 2017 |
| taylor | sum of (weight × gradient)², averaged over batches | Molchanov et al., CVPR 2019 |
| random | a random number: the control that every other criterion has to beat | |

Weights of depthwise convolutions are left out of the sums, as in torch-pruning.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nas.compress.technique import Tools
from nas.compression import CRITERIA
from nas.errors import UnsupportedError, unknown_name
from nas.families.layout import laid_out
from nas.train import seeded, working_on

TAYLOR_BATCHES = 16
TAYLOR_BATCH_SIZE = 64
WEIGHTED: tuple[type[nn.Module], ...] = (_ConvNd, nn.Linear, _BatchNorm, nn.LayerNorm)


class Criterion(ABC):
    """Scores the channels of a group.

    ``without_basis`` lists the layers (each the root of its group) that the criterion had nothing to judge by, and
    that were judged by ``l1`` instead.
    """

    def __init__(self) -> None:
        self.without_basis: list[nn.Module] = []

    def prepare(self, model: nn.Module) -> None:  # noqa: B027 - most criteria look at the weights alone
        """Called with the network as it is before each step of pruning."""

    @abstractmethod
    def scores(self, group: Any) -> Tensor:
        """One score for each channel of the group's root; the lowest are the first to go."""


class Magnitude(Criterion):
    """The sum of a channel's absolute weights, to the power of ``power``."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self._sum = _GroupSum(power, WEIGHTED)

    def scores(self, group: Any) -> Tensor:
        return self._sum(group)


class BatchNormScale(Criterion):
    """The sum of a channel's absolute batch-norm scales; ``l1`` for a group of layers without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self._sum = _GroupSum(1, (_BatchNorm,))
        self._fallback = _GroupSum(1, WEIGHTED)

    def scores(self, group: Any) -> Tensor:
        if any(isinstance(dependency.layer, _BatchNorm) and dependency.layer.affine for dependency, _ in group):
            return self._sum(group)
        self.without_basis.append(group[0].dep.layer)
        return self._fallback(group)


class Taylor(Criterion):
    """The squared first-order change of the loss when a weight is set to zero, (w · ∂L/∂w)², summed over a channel.

    It is averaged over batches of training images, as they are (not augmented), against plain cross-entropy, with the
    batch norms' stored statistics. Squared batch by batch, since the gradient of a trained network's mean loss is
    about zero and would tell nothing.
    """

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._sum = _GroupSum(1, WEIGHTED)

    def prepare(self, model: nn.Module) -> None:
        """Leaves in each weight's ``grad`` what, times the weight, is its score; pruning cuts it as it cuts weights."""
        data, numerics = self._tools.data, self._tools.numerics
        weights = _weights(model.modules())
        sums = [torch.zeros_like(weight, device=numerics.device) for weight in weights]
        with seeded(self._tools.seed, numerics.threads) as generator, torch.enable_grad():
            model.to(numerics.device).eval()
            chosen = torch.randperm(len(data.labels), generator=generator)[: TAYLOR_BATCHES * TAYLOR_BATCH_SIZE]
            batches = torch.split(chosen.to(data.labels.device), TAYLOR_BATCH_SIZE)
            quiet = working_on(data.labels.device)
            for batch in batches:
                with quiet:
                    model.zero_grad(set_to_none=True)
                    logits = model(laid_out(data.normalise(data.images[batch]), model))
                    loss = nn.functional.cross_entropy(logits.float(), data.labels[batch])
                    loss.backward()  # type: ignore[no-untyped-call]
                    for weight, total in zip(weights, sums, strict=True):
                        if weight.grad is not None:
                            total += weight.detach() * weight.grad**2 / len(batches)
            model.zero_grad(set_to_none=True)
        model.cpu()
        for weight, total in zip(weights, sums, strict=True):
            weight.grad = total.cpu()

    def scores(self, group: Any) -> Tensor:
        with _multiplied_by_gradient({dependency.layer for dependency, _ in group}):
            return self._sum(group)


class Random(Criterion):
    """Random scores: what a criterion has to beat."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def scores(self, group: Any) -> Tensor:
        return torch.rand(len(group[0].idxs), generator=self._generator)


def criterion_of(name: str, tools: Tools) -> Criterion:
    """The criterion of that name, for one network.

    Raises:
        UnsupportedError: There is none of that name.
    """
    match name:
        case "l1":
            return Magnitude(1)
        case "l2":
            return Magnitude(2)
        case "bn_scale":
            return BatchNormScale()
        case "taylor":
            return Taylor(tools)
        case "random":
            return Random(tools.seed)
    raise UnsupportedError(unknown_name("pruning criterion", name, CRITERIA))


class _GroupSum(torch_pruning.importance.GroupMagnitudeImportance):  # type: ignore[misc]  # it has no types
    """torch-pruning's magnitude of a group, as a plain sum that is as long as the group's root has channels.

    Its own reduction is as long as the first layer with weights that it meets, which after a split or a flattening
    is another number; and it divides by the mean score, which may be zero.
    """

    def __init__(self, power: int, layers: tuple[type[nn.Module], ...]) -> None:
        super().__init__(p=power, normalizer=None, target_types=layers)
        self._channels = 0

    def __call__(self, group: Any) -> Tensor:
        self._channels = len(group[0].idxs)
        scores: Tensor | None = super().__call__(group)
        return torch.zeros(self._channels) if scores is None else scores

    def _reduce(self, group_imp: list[Tensor], group_idxs: list[list[int | None]]) -> Tensor:
        scores = torch.zeros(self._channels)
        for values, roots in zip(group_imp, group_idxs, strict=True):
            if None not in roots:  # channels that belong to none of the root's
                scores.scatter_add_(0, torch.tensor(roots), values.float())
        return scores


def _weights(layers: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The weights of those layers that have some."""
    weights = [layer.weight for layer in layers if isinstance(layer, WEIGHTED)]
    return [weight for weight in weights if isinstance(weight, nn.Parameter)]


@contextmanager
def _multiplied_by_gradient(layers: set[nn.Module]) -> Iterator[None]:
    """For a moment the weights of the layers are what they are, times their gradient."""
    kept = [(weight, weight.data) for weight in _weights(layers)]
    try:
        for weight, values in kept:
            weight.data = torch.zeros_like(values) if weight.grad is None else values * weight.grad
        yield
    finally:
        for weight, values in kept:
            weight.data = values

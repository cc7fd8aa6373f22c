"""Fine-tuning after pruning, with a teacher's help where the design asks for it (Hinton et al., arXiv:1503.02531)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nas.compress.sparsify import hold_zeros
from nas.compress.technique import Account, NetworkTechnique, Tools
from nas.design import Design
from nas.outcome import Realisation


def split_epochs(epochs: int, steps: int) -> tuple[int, int]:
    """How the epochs of fine-tuning are shared out where pruning takes several steps.

    Returns:
        The epochs after each step but the last, and those after the last. Together they are ``epochs`` where there is
        an epoch for every step; otherwise each step gets one.
    """
    between = max(1, epochs // steps)
    return between, max(1, epochs - (steps - 1) * between)


@dataclass(frozen=True)
class FinetuneConfig:
    """What the fine-tuning is for.

    Args:
        distils: Whether a teacher helps.
        pruning_steps: In how many steps the network was pruned: what was fine-tuned between them is not done again.
        sparse: Whether weights that are zero stay so.
    """

    distils: bool
    pruning_steps: int = 1
    sparse: bool = False


class Finetune(NetworkTechnique[FinetuneConfig]):
    """Trains on after a step that costs accuracy, or to learn from a teacher."""

    name = "finetune"
    choices = ("distillation", "distillation_temperature", "distillation_weight")
    version = 3

    def config(self, design: Design) -> FinetuneConfig | None:
        distils, pruned = bool(design.step("distillation")), any(design.everywhere("pruning_ratio"))
        sparse = bool(design.step("sparsity"))
        if not (distils or pruned or sparse):
            return None
        return FinetuneConfig(distils, int(design.step("pruning_steps")) if pruned else 1, sparse)

    def trains(self, config: FinetuneConfig) -> bool:
        return True

    def apply(self, network: nn.Module, config: FinetuneConfig, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        student = copy.deepcopy(network)
        _, epochs = split_epochs(tools.epochs, config.pruning_steps)
        after_step = hold_zeros(student) if config.sparse else None
        return student, {"curve": tools.finetune(student, epochs, after_step=after_step)}

    def account(self, config: FinetuneConfig, detail: Mapping[str, Any]) -> Account:
        return Account({"distillation": Realisation.REALISED} if config.distils else {})

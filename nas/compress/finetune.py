"""Fine-tuning after pruning, with a teacher's help where the design asks for it (Hinton et al., arXiv:1503.02531)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from nas.compress.technique import Account, NetworkTechnique, Tools
from nas.design import Design
from nas.outcome import Realisation


@dataclass(frozen=True)
class FinetuneConfig:
    """What the fine-tuning is for."""

    distils: bool


class Finetune(NetworkTechnique[FinetuneConfig]):
    """Trains on after a step that costs accuracy, or to learn from a teacher."""

    name = "finetune"
    choices = ("distillation", "distillation_temperature", "distillation_weight")
    version = 3

    def config(self, design: Design) -> FinetuneConfig | None:
        distils = bool(design.step("distillation"))
        changed = any(design.everywhere("pruning_ratio")) or bool(design.step("sparsity"))
        return FinetuneConfig(distils) if distils or changed else None

    def trains(self, config: FinetuneConfig) -> bool:
        return True

    def apply(self, network: nn.Module, config: FinetuneConfig, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        student = copy.deepcopy(network)
        return student, {"curve": tools.finetune(student, tools.epochs)}

    def account(self, config: FinetuneConfig, detail: Mapping[str, Any]) -> Account:
        return Account({"distillation": Realisation.REALISED} if config.distils else {})

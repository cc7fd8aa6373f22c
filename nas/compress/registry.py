"""The techniques, in the one order in which they are applied. A new one is a line here."""

from __future__ import annotations

from typing import Any

from nas.compress.finetune import Finetune
from nas.compress.prune import Prune
from nas.compress.quantise import Quantise
from nas.compress.share import Share
from nas.compress.sparsify import Sparsify
from nas.compress.technique import GraphTechnique, NetworkTechnique

NETWORK_TECHNIQUES: tuple[NetworkTechnique[Any], ...] = (Prune(), Sparsify(), Finetune())
GRAPH_TECHNIQUES: tuple[GraphTechnique[Any], ...] = (Share(), Quantise())

"""The analysis: each stage of a trained network is compressed alone, exported, and the file scored.

Nothing is trained. A stage is pruned and quantised by the very techniques that a search uses, as a design with choices
for that one stage; what is scored is the file that would ship. So a row of the table says what a trial would start
from before its fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas.artifact import open_session, probabilities
from nas.design import Design
from nas.errors import ArtifactError, UnsupportedError
from nas.measure.complexity import Complexity, count
from nas.networks import Inherits
from nas.pipeline import Pipeline, Uncompressed
from nas.record import TrialRecord
from nas.sensitivity.parts import Part, compression_of, own_counts, single_layers, stages
from nas.sensitivity.result import SETTINGS, Effect, Sensitivity, Setting, Stage
from nas.stages import Trace

# Called as the analysis goes on: (what is at work, steps done, steps in all).
Progress = Callable[[str, float, int], None]

NOTHING_TO_PRUNE = (
    "no channel of it can go: classes stay, channels shared with other stages, and a least number of others"
)
NOTHING_TO_QUANTISE = "it holds no weights that this would change"


def difference(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """How much accuracy is lost between two answers to the same images, and the standard error of that.

    The answers are paired: only images that one file gets right and the other wrong add to the error, so that it is
    far smaller than that of two separate accuracies. With d = 1, 0 or −1 for each of n images (McNemar's table), the
    loss is the mean of d and its error √((mean of d² − loss²) / n). Where no answer changes both are 0.

    Args:
        before: For each image whether it was right.
        after: The same of the other file.

    Returns:
        Shares: 0.01 is a point.
    """
    change = before.astype(np.int64) - after.astype(np.int64)
    lost = float(change.mean())
    return lost, math.sqrt(max(0.0, float(np.square(change).mean()) - lost**2) / len(change))


def analyse(
    study: str,
    record: TrialRecord,
    pipeline: Pipeline,
    images: int,
    layers: bool,
    progress: Progress,
    settings: Sequence[Setting] = SETTINGS,
    inherits: Inherits | None = None,
) -> Sensitivity:
    """Analyses the float network that a trial started from.

    Args:
        study: The study's name.
        record: The trial.
        pipeline: The study's; its cache holds the network, or it is trained again.
        images: On how many validation images files are scored, at most; the split is in random order.
        layers: Take single layers instead of stages.
        progress: Hears how far it has come.
        settings: What each stage goes through.
        inherits: What the network's training started from instead of random weights (see ``nas.lineage``).

    Raises:
        UnsupportedError: The float network itself cannot be exported.
    """
    design = Design(record.design.family, record.design.architecture, {})
    trace = Trace(lambda stage, share: progress(f"{stage} trial {record.number}'s float network", share, 1))
    float_network = pipeline.uncompressed(design, record.seed, trace, inherits)
    comparison = _Comparison(pipeline, design, record.seed, float_network, images, inherits)
    parts = single_layers(float_network.network) if layers else stages(float_network.network)
    found, done = [], 0
    for part in parts:
        effects = []
        for setting in settings:
            progress(f"{part.name} {setting.label}", done, len(parts) * len(settings))
            effects.append(comparison.effect(part, setting))
            done += 1
        macs, params = own_counts(part, comparison.complexity)
        found.append(Stage(part.name, part.path, macs, params, tuple(effects)))
    return Sensitivity(
        study=study,
        trial=record.number,
        design=design,
        images=len(comparison.labels),
        accuracy=float(comparison.right.mean()),
        macs=comparison.complexity.macs,
        params=comparison.complexity.params,
        size_bytes=len(float_network.artifact),
        stages=tuple(found),
    )


class _Comparison:
    """A float network, and what becomes of it where one part is compressed."""

    def __init__(
        self,
        pipeline: Pipeline,
        design: Design,
        seed: int,
        start: Uncompressed,
        images: int,
        inherits: Inherits | None,
    ) -> None:
        self.pipeline = pipeline
        self.inherits = inherits
        self.design = design
        self.seed = seed
        self.start = start
        validation = pipeline.dataset.validation
        self.images, self.labels = validation.images[:images], validation.labels[:images]
        self.complexity: Complexity = count(start.network, pipeline.input_shape)
        self.right = self._right(start.artifact)

    def effect(self, part: Part, setting: Setting) -> Effect:
        """The effect of a setting on one part; a refusal is a value too."""
        compression = compression_of(part, setting)
        design = Design(self.design.family, self.design.architecture, compression)
        try:
            network, artifact = self.pipeline.without_training(design, self.seed, Trace(), self.inherits)
            complexity = count(network, self.pipeline.input_shape) if setting.prunes else self.complexity
            if setting.prunes and complexity.params == self.complexity.params:
                return Effect(setting, reason=NOTHING_TO_PRUNE)
            if artifact == self.start.artifact:
                return Effect(setting, reason=NOTHING_TO_QUANTISE)
            right = self._right(artifact)
        except (UnsupportedError, ArtifactError) as error:
            return Effect(setting, refused=True, reason=error.message)
        lost, error_of_lost = difference(self.right, right)
        return Effect(setting, lost, error_of_lost, complexity.macs, complexity.params, len(artifact))

    def _right(self, artifact: bytes) -> np.ndarray:
        """For each image whether the file's most probable class is the true one."""
        session = open_session(artifact, self.pipeline.numerics.threads)
        found: np.ndarray = probabilities(session, self.images).argmax(1) == self.labels
        return found

"""Weight sharing: each layer's weights become few values, stored once, and an index of few bits for each weight.

k-means finds the values, training moves them (Han et al., Deep Compression, ICLR 2016), the file stores packed indices
(``nas.compress.packed_indices``). That saves room, never time: a runtime computes with the weights that it rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from nas.compress.codebook import Clusters, Codebook, cluster
from nas.compress.graph.network import GraphNetwork
from nas.compress.packed_indices import rebuilt_in_every_run, saves_room, store
from nas.compress.stages import path_of_node
from nas.compress.technique import Account, GraphTechnique, Tools
from nas.design import Design
from nas.errors import UnsupportedError
from nas.outcome import Realisation


@dataclass(frozen=True)
class ShareConfig:
    """How many bits an index has: 2**bits values a layer."""

    codebook_bits: int


class Share(GraphTechnique[ShareConfig]):
    """Codebooks for the weights of convolutions and linear layers, and their fine-tuning."""

    name = "share"
    choices = ("weight_sharing", "codebook_bits")
    version = 1
    packages = ("scikit-learn",)

    def config(self, design: Design) -> ShareConfig | None:
        if design.step("weight_sharing") == "none":
            return None
        return ShareConfig(int(design.step("codebook_bits")))

    def trains(self, config: ShareConfig) -> bool:
        return True

    def apply(self, body: bytes, config: ShareConfig, tools: Tools) -> tuple[bytes, dict[str, Any]]:
        """Clusters each layer's weights, trains the values together with the biases, and packs the indices.

        Layers that take no less room as indices and values stay float, and are trained on as such.
        """
        bits = config.codebook_bits
        floats, layers = _floats(body), _layers(body)
        network = GraphNetwork(body)
        weights = {name: floats[name] for name in network.weights}
        found = {name: cluster(values, bits, tools.seed) for name, values in weights.items()}
        books = {name: Codebook(clusters) for name, clusters in found.items() if saves_room(clusters, bits)}
        if not books:
            largest = max(weights, key=lambda name: weights[name].size, default="")
            what = f"'{layers[largest]}', has {weights[largest].size} weights" if largest else "is none with weights"
            raise UnsupportedError(
                f"sharing weights with {bits} bits saves nothing on this network: its largest layer {what}",
                "leave weight_sharing out, or give a wider network",
            )
        for name, book in books.items():
            network.replace(name, book)
        # No weight decay: it would only shrink a layer's few values, at the expense of the loss.
        plain = replace(tools, training=tools.training.model_copy(update={"weight_decay": 0.0}))
        curve = plain.finetune(network, tools.epochs)
        shared = {name: book.clusters() for name, book in books.items()}
        detail = {
            "layers": _described(weights, {name: found[name] for name in books}, layers),
            "left_float": [layers[name] for name in weights if name not in books],
            "curve": curve,
        }
        return store(network.body(), shared, bits), detail

    def account(self, config: ShareConfig, detail: Mapping[str, Any], artifact: bytes) -> Account:
        """Simulated: the file is smaller, the arithmetic is that of floats."""
        bits = config.codebook_bits
        notes = [f"weights are shared: {2**bits} values a layer, stored in {bits} bits; saves size, not time"]
        if detail["left_float"]:
            names = ", ".join(detail["left_float"])
            notes.append(f"not shared, since indices and values would take no less room than floats: {names}")
        if operators := rebuilt_in_every_run(artifact):
            names = ", ".join(sorted(set(operators)))
            notes.append(f"ONNX Runtime rebuilds shared weights in every run, which costs time, by {names}")
        labels = dict.fromkeys(self.choices, Realisation.SIMULATED)
        return Account(labels, tuple(notes))


def _floats(body: bytes) -> dict[str, np.ndarray]:
    """The body's float initializers: weights, biases and other constants.

    Raises:
        UnsupportedError: One is NaN or infinite.
    """
    graph = onnx.load_from_string(body).graph
    floats = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    for name, values in floats.items():
        if not np.isfinite(values).all():
            raise UnsupportedError(
                f"the weights of '{_layers(body)[name]}' cannot be shared: one is NaN or infinite",
                "give the network finite weights",
            )
    return floats


def _layers(body: bytes) -> dict[str, str]:
    """The layer that uses an initializer first, by its path in the network, else by the node's or its own name."""
    layers: dict[str, str] = {}
    for node in onnx.load_from_string(body).graph.node:
        for name in node.input:
            layers.setdefault(name, path_of_node(node.name) or node.name or name)
    return layers


def _described(
    weights: Mapping[str, np.ndarray], shared: Mapping[str, Clusters], layers: Mapping[str, str]
) -> list[dict[str, Any]]:
    """For each layer how many weights share how many values, and what clustering cost, before any fine-tuning.

    ``relative_error`` is the squared error relative to the weights' own squares, ``share_of_error`` the layer's part
    of the squared error of all layers.
    """
    errors = {
        name: float(np.square(weights[name] - found.weights, dtype=np.float64).sum()) for name, found in shared.items()
    }
    whole = sum(errors.values())
    described = []
    for name, found in shared.items():
        energy = float(np.square(weights[name], dtype=np.float64).sum())
        described.append(
            {
                "layer": layers[name],
                "weights": int(found.indices.size),
                "values": len(found.values),
                "relative_error": errors[name] / energy if energy else 0.0,
                "share_of_error": errors[name] / whole if whole else 0.0,
            }
        )
    return described

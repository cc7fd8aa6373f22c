"""A person's own network: built, filled with its weights, checked against the data, carried through the pipeline."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import foreign_networks
import numpy as np
import pytest
import safetensors.torch
import torch
from integer_products import SATURATES
from small_networks import ONE_THREAD, digits, make_recipe, normalised, with_statistics
from torch import nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.data.dataset import Dataset, Split, digest_of
from nas.data.normalise import normalisation_of
from nas.design import Design, Value
from nas.errors import DataError, ModuleError, NasError
from nas.families import load_own
from nas.families.layout import layout_of
from nas.families.weights import read_weights
from nas.outcome import Realisation
from nas.own_module import INCLUDED, OwnModule
from nas.pipeline import Pipeline, Product, Teacher, own_network
from nas.stages import Trace
from nas.store import Store

NETWORKS = Path(foreign_networks.__file__)
DIGITS = (1, 8, 8)
INT8: dict[str, Value] = {"weight_bits": 8, "activation_bits": 8}
TINY = ("tiny_resnet", "tiny_mobilenet")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(name: str = "tiny_resnet", **arguments: Any) -> nn.Module:
    """A network of the tests' own file that looks as if it had been trained."""
    torch.manual_seed(3)
    return with_statistics(getattr(foreign_networks, name)(**arguments))


def save(network: nn.Module, path: Path) -> str:
    safetensors.torch.save_file(network.state_dict(), path)
    return str(path)


def own_file(folder: Path, text: str, name: str = "net.py") -> str:
    """A Python file of a person's own."""
    path = folder / name
    path.write_text(f"import torch\nfrom torch import nn\n{text}")
    return str(path)


def linear(extra: str = "") -> str:
    return f"def make(classes=10):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes){extra})\n"


# --- what builds it


@pytest.mark.parametrize("name", TINY)
def test_weights_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    network = trained(name)
    module = OwnModule(str(NETWORKS), name, {}, save(network, tmp_path / "w.safetensors"))
    own = load_own(module, DIGITS, 10)
    assert own.trained is not None
    assert not own.trained.training
    assert own.trained.state_dict().keys() == network.state_dict().keys(), "layers keep their names"
    for key, tensor in own.trained.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[key])
    assert all(parameter.requires_grad for parameter in own.trained.parameters())


def test_a_network_without_weights_is_drawn_from_the_global_generator() -> None:
    own = load_own(OwnModule(str(NETWORKS), "tiny_resnet"), DIGITS, 10)
    assert own.trained is None
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(own.build().fc.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_an_importable_module_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "layers.py").write_text("from torch import nn\n\nclass Flat(nn.Flatten):\n    pass\n")
    text = "from torch import nn\nfrom own_package.layers import Flat\n"
    text += "def make():\n    return nn.Sequential(Flat(), nn.Linear(64, 10))\n"
    (tmp_path / "own_package" / "nets.py").write_text(text)
    monkeypatch.chdir(tmp_path)  # as in a project's folder, which no installed command has on its path
    own = load_own(OwnModule("own_package.nets", "make"), DIGITS, 10)
    assert type(own.build()[0]).__name__ == "Flat"


def test_a_file_may_import_what_lies_beside_it_and_give_a_class_or_a_network(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("WIDTH = 64\n")
    own_file(
        tmp_path,
        "from dataclasses import dataclass\nfrom beside_it import WIDTH\n\n\n"
        "@dataclass\nclass Config:\n    classes: int = 10\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes=10):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(WIDTH, Config(classes).classes)\n"
        "    def forward(self, x):\n"
        "        return self.fc(x.flatten(1))\n\n\nready = nn.DataParallel(Net()).double()\n",
    )
    for name in ("Net", "ready"):
        network = load_own(OwnModule(str(tmp_path / "net.py"), name), DIGITS, 10).build()
        assert type(network).__name__ == "Net"
        assert network(torch.zeros(2, *DIGITS)).dtype is torch.float32


BROKEN = [
    (linear(), {"callable": "mkae"}, r"unknown callable of net\.py: 'mkae'; did you mean 'make'\? valid: make$"),
    ("import nowhere_at_all", {}, r"net\.py cannot be run: ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ("def make(:", {}, r"net\.py cannot be run: SyntaxError"),
    ("raise SystemExit(3)", {}, r"net\.py cannot be run: SystemExit: 3"),
    ("def make():\n    raise KeyError('blocks')", {}, r"net\.py:make raised KeyError: 'blocks'"),
    (
        linear(),
        {"arguments": {"clases": 3}},
        r"net\.py:make raised TypeError: .*clases.* \(give its arguments by name\)",
    ),
    ("make = 3", {}, r"net\.py:make must be a function or class that gives a network, but is a int"),
    ("def make():\n    return [1]", {}, r"net\.py:make must give an nn\.Module, but gave list"),
    (
        "make = nn.Linear(64, 10)",
        {"arguments": {"a": 1}},
        r"net\.py:make is a network already, which takes no arguments",
    ),
    (linear(), {"arguments": {"classes": 7}}, r"net\.py:make gives 7 classes, but the data has 10 \(say so in its arg"),
    (linear(", nn.Softmax(1)"), {}, r"net\.py:make gives probabilities, but must give logits \(leave its last softmax"),
    ("make = nn.Identity", {}, r"net\.py:make must give 2×10 logits for 2×1×8×8 images, but gives 2×1×8×8"),
    (
        "make = lambda: nn.Conv2d(3, 10, 3)",
        {},
        r"net\.py:make cannot run on the data's images \(1 channels of 8×8\): Runt",
    ),
    (
        "class make(nn.Linear):\n  def __init__(self):\n    super().__init__(64, 10)\n"
        "  def forward(self, x):\n    return super().forward(x.reshape(2, 64))",
        {},
        r"net\.py:make cannot run on batches of other sizes: .*'\[2, 64\]' is invalid",
    ),
    (
        "class make(nn.Module):\n    def forward(self, x):\n        return {'loss': 3}",
        {},
        r"net\.py:make must give 2×10 logits for 2×1×8×8 images, but gives dict",
    ),
    (
        "class make(nn.Linear):\n  def __init__(self):\n    super().__init__(8, 8)\n    self.x = -self.weight",
        {},
        r"net\.py:make cannot be copied: RuntimeError",
    ),
]


@pytest.mark.parametrize(("text", "changes", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_what_builds_no_network_is_one_clear_line(
    text: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    module = replace(OwnModule(own_file(tmp_path, text), "make"), **changes)
    with pytest.raises(ModuleError, match=message) as raised:
        load_own(module, DIGITS, 10)
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_module_is_named(tmp_path: Path) -> None:
    own_file(tmp_path, linear(), "other.py")
    with pytest.raises(ModuleError, match=r"there is no Python file .*net\.py \(Python files there: other\.py\)"):
        load_own(OwnModule(str(tmp_path / "net.py"), "make"), DIGITS, 10)
    with pytest.raises(ModuleError, match=r"the module no_such_package\.nets cannot be imported: ModuleNotFoundError"):
        load_own(OwnModule("no_such_package.nets", "make"), DIGITS, 10)


# --- its weights


def checkpoints(state: dict[str, torch.Tensor]) -> dict[str, object]:
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": prefixed, "optimizer": {"lr": 0.1}},
        "both": {"model": {"state_dict": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}}},
        "half": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        "old": {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
    }


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "both", "half", "old"])
def test_any_usual_checkpoint_is_read(form: str, tmp_path: Path) -> None:
    state = trained().state_dict()
    torch.save(checkpoints(state)[form], tmp_path / "net.pth")
    own = load_own(OwnModule(str(NETWORKS), "tiny_resnet", {}, str(tmp_path / "net.pth")), DIGITS, 10)
    assert own.trained is not None
    tolerance = 1e-2 if form == "half" else 0.0
    for name, tensor in own.trained.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=tolerance, atol=tolerance)


def damaged(state: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    state = dict(state)
    if how == "missing":
        del state["fc.weight"], state["fc.bias"]
    elif how == "unexpected":
        state["head.weight"] = torch.zeros(3)
    elif how == "shape":
        state["fc.weight"] = torch.zeros(100, 16)
    else:
        state["bn1.bias"] = state["bn1.bias"] * torch.nan
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"the weights in w\.safetensors do not fit .*:tiny_resnet: it lacks 'fc\.weight' \(and 1 more\)"),
        ("unexpected", r"it has 'head\.weight', which the network has not"),
        ("shape", r"its 'fc\.weight' is 100×16, but must be 10×16"),
        ("nan", r"its 'bn1\.bias' holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_named(how: str, message: str, tmp_path: Path) -> None:
    safetensors.torch.save_file(damaged(trained().state_dict(), how), tmp_path / "w.safetensors")
    with pytest.raises(ModuleError, match=message):
        load_own(OwnModule(str(NETWORKS), "tiny_resnet", {}, str(tmp_path / "w.safetensors")), DIGITS, 10)


class Harmful:
    """What an unsafe loader would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", {"a": Harmful()}, "holds more than tensors, which is not loaded since it could run code"),
        ("w.pth", b"no weights", "cannot be read as weights|holds more than tensors"),
        ("w.pth", [torch.zeros(1)], "holds no state_dict but a list"),
        ("w.pth", {"epoch": 3}, "holds no state_dict but a dict"),
        ("w.safetensors", b"no weights", "cannot be read as safetensors"),
        ("w.pth", None, "there is no weights file .*w.pth"),
    ],
    # Not what they are in words: an object's holds its address, which differs between processes that share the tests.
    ids=["code", "bytes", "list", "number", "safetensors", "missing"],
)
def test_a_file_without_weights_is_refused_and_runs_nothing(
    name: str, content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        torch.save(content, tmp_path / name)
    with pytest.raises(ModuleError, match=message):
        read_weights(tmp_path / name)
    assert not (tmp_path / "was_run").exists()


# --- what it is made of


def test_the_digest_follows_source_arguments_weights_and_normalisation_but_not_the_place(tmp_path: Path) -> None:
    network = trained()
    file = save(network, tmp_path / "w.safetensors")
    base = OwnModule(str(NETWORKS), "tiny_resnet", {}, file)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = elsewhere / "renamed.py"
    moved.write_bytes(NETWORKS.read_bytes())
    torch.save(network.state_dict(), elsewhere / "w.pth")
    changed = elsewhere / "changed.py"
    changed.write_text(NETWORKS.read_text().replace("out += identity", "out += 2 * identity"))
    network.fc.bias.data[0] += 1
    other_weights = save(network, tmp_path / "other.safetensors")

    def digest(module: OwnModule) -> str:
        return load_own(module, DIGITS, 10).digest

    assert digest(base) == digest(OwnModule(str(moved), "tiny_resnet", {}, str(elsewhere / "w.pth")))
    others = [
        OwnModule(str(changed), "tiny_resnet", {}, file),
        OwnModule(str(NETWORKS), "tiny_resnet", {"width": 8}, file),
        OwnModule(str(NETWORKS), "tiny_resnet", {}, other_weights),
        OwnModule(str(NETWORKS), "tiny_resnet"),
        OwnModule(str(NETWORKS), "tiny_resnet", {}, INCLUDED),
        OwnModule(str(NETWORKS), "tiny_resnet", {}, file, (0.5,), (0.5,)),
    ]
    digests = {digest(module) for module in (base, *others)}
    assert len(digests) == len(others) + 1
    assert digest(others[4]) == digest(others[4]), "included weights that are drawn are the same every time"


def test_the_digest_follows_a_layer_in_another_file(tmp_path: Path) -> None:
    layers = tmp_path / "own_layers.py"
    layers.write_text("from torch import nn\n\nclass Flat(nn.Flatten):\n    pass\n")
    text = "import importlib, own_layers\nimportlib.reload(own_layers)\nfrom own_layers import Flat\n"
    module = OwnModule(own_file(tmp_path, text + linear().replace("nn.Flatten", "Flat")), "make")
    before = load_own(module, DIGITS, 10).digest
    layers.write_text(layers.read_text() + "# another comment, of another length\n")
    assert load_own(module, DIGITS, 10).digest != before


# --- outputs


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "training"])
def test_other_outputs_are_dropped_and_leave_nothing_in_the_file(form: str, tmp_path: Path) -> None:
    network = trained("with_auxiliary_output", form=form)
    file = save(network, tmp_path / "w.safetensors")
    pipeline = make_pipeline(tmp_path, OwnModule(str(NETWORKS), "with_auxiliary_output", {"form": form}, file))
    for compression in ({}, {"pruning_ratio": 0.5}):
        product, _ = run(pipeline, **compression)
        assert probabilities(open_session(product.artifact), digits().validation.images).shape == (200, 10)
    plain, _ = run(pipeline)
    weights = sum(p.numel() for layer in (network.body, network.fc) for p in layer.parameters())
    assert 4 * weights < len(plain.artifact) < 4 * weights + 2000, "neither the auxiliary head nor the unused map"
    images = torch.zeros(2, *DIGITS)
    assert pipeline.own is not None
    assert set(pipeline.own.dropped) == {"auxiliary", "unused"}
    copied = copy.deepcopy(pipeline.own.trained)
    assert copied is not None
    for training in (True, False):
        assert copied.train(training)(images).shape == (2, 10)


# --- the pipeline


def make_pipeline(folder: Path, module: OwnModule, dataset: Dataset | None = None, **recipe: Any) -> Pipeline:
    dataset = dataset or digits()
    own = own_network(module, dataset)
    return Pipeline(make_recipe(**recipe), dataset, Store(folder / "cache", 10**9), ONE_THREAD, False, own)


def run(pipeline: Pipeline, teacher: Teacher | None = None, **compression: Value) -> tuple[Product, Trace]:
    assert pipeline.own is not None
    trace = Trace()
    design = Design("module", {"module": pipeline.own.module.callable}, compression)
    return pipeline.run(design, 0, teacher, trace), trace


def rgb(dtype: str = "uint8", layout: str = "NHWC", channels: int = 3) -> Dataset:
    """64 noisy images of 32×32, each of another colour, in four classes; 16 for validation and as many for testing."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 64), ("validation", 16), ("test", 16)):
        colours = rng.integers(0, 200, (count, 1, 1, channels))
        images = (colours + rng.integers(0, 56, (count, 32, 32, channels))).astype(dtype)
        images = images if layout == "NHWC" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        splits[name] = Split(images if dtype == "uint8" else images / np.float32(99), np.arange(count) % 4)
    spec = InputSpec(dtype, splits["train"].images.shape[1:], layout)
    names = ("a", "b", "c", "d")
    return Dataset(*splits.values(), names, spec, digest_of(splits, names, spec))


def decide(network: nn.Module, dataset: Dataset) -> None:
    """Spreads the logits of different images around 0, so that a wrong normalisation shows in the probabilities."""
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    last.weight.data /= own_logits(network, dataset, MEAN, STD).std(0).mean()
    last.bias.data -= own_logits(network, dataset, MEAN, STD).mean(0)


def own_logits(network: nn.Module, dataset: Dataset, mean: Any, std: Any) -> torch.Tensor:
    """What a network makes of images under its own normalisation, as its owner would compute it."""
    scale = 255 if dataset.input.dtype == "uint8" else 1
    shape = (3,) if dataset.input.layout == "NHWC" else (3, 1, 1)
    mean, std = (scale * np.asarray(values).reshape(shape) for values in (mean, std))
    pixels = normalised(dataset.validation.images, mean, std, dataset.input.layout)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(np.ascontiguousarray(pixels)))


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("dtype", "layout"), [("uint8", "NHWC"), ("uint8", "NCHW"), ("float32", "NHWC")])
def test_the_file_agrees_with_the_network_under_its_own_normalisation(
    name: str, dtype: str, layout: str, tmp_path: Path
) -> None:
    dataset = rgb(dtype, layout)
    network = trained(name, classes=4, channels=3)
    decide(network, dataset)
    file = save(network, tmp_path / "w.safetensors")
    module = OwnModule(str(NETWORKS), name, {"classes": 4, "channels": 3}, file, MEAN, STD)
    pipeline = make_pipeline(tmp_path, module, dataset)
    product, trace = run(pipeline)
    expected = torch.softmax(own_logits(network, dataset, MEAN, STD), 1).numpy()
    result = probabilities(open_session(product.artifact), dataset.validation.images)
    assert np.abs(result - expected).max() < 1e-3
    assert np.ptp(expected, axis=0).max() > 0.1, "the images make a difference"
    assert [stage.stage for stage in trace.stages] == ["export"], "nothing is trained"
    quantised, _ = run(pipeline, **INT8)
    int8 = probabilities(open_session(quantised.artifact), dataset.validation.images)
    if not SATURATES:
        assert np.abs(int8 - expected).mean() < 0.05
    assert quantised.labels == {"weight_bits": Realisation.REALISED, "activation_bits": Realisation.REALISED}


def test_without_a_normalisation_of_its_own_it_gets_the_studys(tmp_path: Path) -> None:
    module = OwnModule(str(NETWORKS), "tiny_resnet", {}, save(trained(), tmp_path / "w.safetensors"))
    pipeline = make_pipeline(tmp_path, module)
    assert pipeline.normalisation == normalisation_of(digits().train.images, digits().input)
    given = make_pipeline(tmp_path, replace(module, mean=(0.5,), std=(0.25,)))
    assert given.normalisation.mean == (127.5,)
    assert given.normalisation.std == (63.75,)


def test_a_normalisation_for_other_channels_is_refused() -> None:
    module = OwnModule(str(NETWORKS), "tiny_resnet", {}, None, MEAN, STD)
    with pytest.raises(DataError, match="'mean' and 'std' are given for 3 channels, but the data has 1"):
        own_network(module, digits())
    assert own_network(None, digits()) is None


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("compression", [{"pruning_ratio": 0.5}, {"pruning_ratio": 0.5, "distillation": True, **INT8}])
def test_compression_of_a_foreign_network_is_real(name: str, compression: dict[str, Value], tmp_path: Path) -> None:
    module = OwnModule(str(NETWORKS), name, {"classes": 4, "channels": 3}, None, MEAN, STD)
    network = trained(name, classes=4, channels=3)
    module = replace(module, weights=save(network, tmp_path / "w.safetensors"))
    pipeline = make_pipeline(tmp_path, module, rgb(), training={"batch_size": 16})
    baseline, _ = run(pipeline)
    itself = Teacher(0, Design("module", {"module": name}, {}))
    product, trace = run(pipeline, itself, **compression)
    assert set(product.labels.values()) == {Realisation.REALISED}
    assert len(product.artifact) < len(baseline.artifact)
    parameters = [sum(p.numel() for p in each.network.parameters()) for each in (baseline, product)]
    assert parameters[1] < 0.8 * parameters[0]
    for stage in trace.stages:
        assert json.loads(json.dumps(stage.detail)) == stage.detail
    again, second = run(pipeline, itself, **compression)
    assert all(stage.cached for stage in second.stages)
    assert again.artifact == product.artifact
    for before, after in zip(network.state_dict().values(), pipeline.own.trained.state_dict().values(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(before, after), "the network itself is left as it is"


def test_keys_follow_the_network(tmp_path: Path) -> None:
    network = trained()
    module = OwnModule(str(NETWORKS), "tiny_resnet", {}, save(network, tmp_path / "w.safetensors"))
    design = Design("module", {"module": "tiny_resnet"}, {})
    base = make_pipeline(tmp_path, module).train_key(design, 0)
    assert make_pipeline(tmp_path, module, epochs=7).train_key(design, 1) == base, "nothing is trained"
    network.fc.bias.data[0] += 1
    save(network, tmp_path / "w.safetensors")
    assert make_pipeline(tmp_path, module).train_key(design, 0) != base
    untrained = [make_pipeline(tmp_path, replace(module, weights=None), epochs=epochs) for epochs in (1, 2)]
    assert len({pipeline.train_key(design, seed) for pipeline in untrained for seed in (0, 1)} | {base}) == 5


def test_a_network_without_weights_is_trained_like_any_family(tmp_path: Path) -> None:
    module = OwnModule(str(NETWORKS), "tiny_resnet")
    pipeline = make_pipeline(tmp_path, module, epochs=6, training={"batch_size": 25})
    product, trace = run(pipeline)
    assert [stage.stage for stage in trace.stages] == ["train", "export"]
    result = probabilities(open_session(product.artifact), digits().validation.images)
    assert (result.argmax(1) == digits().validation.labels).mean() > 0.5
    repeated = make_pipeline(tmp_path / "again", module, epochs=6, training={"batch_size": 25})
    assert run(repeated)[0].artifact == product.artifact


@pytest.mark.parametrize(
    "compression",
    [
        {"pruning_ratio": 0.5, "pruning_criterion": "taylor", "distillation": True},
        {"weight_bits": 4, "activation_bits": 8, "quantisation_aware": True},
    ],
    ids=["pruned", "quantised"],
)
def test_a_forward_that_views_trains_on_contiguous_tensors(compression: dict[str, Value], tmp_path: Path) -> None:
    """``view`` cannot flatten what lies channels last."""
    text = """
        class make(nn.Module):
            def __init__(self):
                super().__init__()
                self.wide = nn.Conv2d(1, 32, 3, padding=1)
                self.narrow = nn.Conv2d(32, 8, 3, stride=2, padding=1)
                self.out = nn.Linear(8 * 4 * 4, 10)
            def forward(self, x):
                return self.out(self.narrow(torch.relu(self.wide(x))).view(-1, 8 * 4 * 4))
    """
    source = own_file(tmp_path, textwrap.dedent(text))
    pipeline = make_pipeline(tmp_path / "cache", OwnModule(source, "make"))
    assert pipeline.own is not None
    assert layout_of(pipeline.own.build()) is torch.contiguous_format
    product, _ = run(pipeline, Teacher(0, Design("module", {"module": "make"}, {})), **compression)
    result = probabilities(open_session(product.artifact), digits().validation.images)
    assert np.isfinite(result).all()
    assert layout_of(product.network) is torch.contiguous_format


def test_layers_may_share_a_tensor(tmp_path: Path) -> None:
    """Which safetensors refuses to store."""
    text = """
class make(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.fc(self.b(self.a(x.flatten(1)).relu()).relu())
"""
    module = OwnModule(own_file(tmp_path, text), "make", {}, INCLUDED)
    pipeline = make_pipeline(tmp_path, module)
    product, _ = run(pipeline, Teacher(0, Design("module", {"module": "make"}, {})), distillation=True)
    assert product.network.a.weight is product.network.b.weight


def test_a_design_of_a_module_without_one_is_refused(tmp_path: Path) -> None:
    pipeline = Pipeline(make_recipe(), digits(), Store(tmp_path, 10**9), ONE_THREAD, False)
    with pytest.raises(NasError, match=re.escape("a design alone does not say how to build a network")):
        pipeline.run(Design("module", {"module": "tiny_resnet"}, {}), 0, None, Trace())

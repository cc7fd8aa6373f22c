"""A teacher from a file: every kind gives its network's logits, and one that does not fit is refused in one line."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from onnx_models import make_model
from small_networks import ARCHITECTURES, ONE_THREAD, digits, training_data, with_statistics
from torch import Tensor, nn

from nas.artifact import InputSpec
from nas.compress.export import attach_front_end, export_body
from nas.data.dataset import Dataset, Split, digest_of
from nas.data.normalise import normalisation_of
from nas.errors import TeacherError
from nas.families import build
from nas.recipe_sections import TeacherConfig
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import predict_logits

OWN = {"family": "convnet", "architecture": ARCHITECTURES["convnet"]}


def make_network(shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10, seed: int = 0) -> nn.Module:
    """A small convnet whose logits tell images apart."""
    torch.manual_seed(seed)
    return with_statistics(build("convnet", ARCHITECTURES["convnet"], shape, classes))


# --- files -----------------------------------------------------------------------------------------------------------


def write_body(network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 8, 8)) -> None:
    path.write_bytes(export_body(network, shape))


def write_artifact(network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 8, 8)) -> None:
    channels, height, width = shape
    normalisation = normalisation_of(digits().train.images, digits().input)
    spec = InputSpec("uint8", (height, width, channels))
    path.write_bytes(attach_front_end(export_body(network, shape), spec, normalisation))


def write_plain_onnx(network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 8, 8), batch: int = 1) -> None:
    """Logits, for one number of images at a time, as the exporter does it where nobody asks for more."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(batch, *shape),), buffer, dynamo=False)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def write_onnx_in_parts(network: nn.Module, path: Path) -> None:
    write_plain_onnx(network, path)
    beside = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0}
    onnx.save_model(onnx.load(str(path)), str(path), **beside)


def write_torchscript(network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 8, 8)) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network, torch.zeros(2, *shape)), path)  # type: ignore[no-untyped-call]


def write_program(
    network: nn.Module, path: Path, shape: tuple[int, int, int] = (1, 8, 8), most: int | None = None
) -> None:
    sizes = ({0: torch.export.Dim("images", max=most)},) if most else None
    torch.export.save(torch.export.export(network, (torch.zeros(3, *shape),), dynamic_shapes=sizes), path)


def write_safetensors(network: nn.Module, path: Path) -> None:
    safetensors.torch.save_file(network.state_dict(), path)


def write_state_dict(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)


Writer = Callable[[nn.Module, Path], None]
KINDS: list[tuple[str, Writer, dict[str, Any]]] = [
    ("body.onnx", write_body, {}),
    ("artifact.onnx", write_artifact, {}),
    ("fixed.onnx", write_plain_onnx, {}),
    ("parts.onnx", write_onnx_in_parts, {}),
    ("script.pt", write_torchscript, {}),
    ("script.ts", write_torchscript, {}),
    ("fixed.pt2", write_program, {}),
    ("open.PT2", lambda network, path: write_program(network, path, most=7), {}),
    ("weights.safetensors", write_safetensors, OWN),
    ("weights.pth", write_state_dict, OWN),
]


def load(path: Path, dataset: Dataset | None = None, **config: Any) -> GivenTeacher:
    dataset = dataset or digits()
    normalisation = normalisation_of(dataset.train.images, dataset.input)
    return load_teacher(TeacherConfig(path=path, **config), dataset, normalisation, ONE_THREAD)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return torch.log_softmax(torch.from_numpy(logits), 1).numpy()


@pytest.mark.parametrize(("name", "write", "config"), KINDS, ids=[kind[0] for kind in KINDS])
def test_every_kind_of_file_gives_its_networks_logits(
    name: str, write: Writer, config: dict[str, Any], tmp_path: Path
) -> None:
    network = make_network()
    wanted = predict_logits(network, training_data(digits())).numpy()
    write(network, tmp_path / name)
    random_state = torch.get_rng_state()
    teacher = load(tmp_path / name, **config)
    shares: list[float] = []
    logits = teacher.logits(digits().train.images, ONE_THREAD, shares.append)
    assert torch.equal(torch.get_rng_state(), random_state), "what follows must not depend on a teacher being there"
    assert logits.dtype == np.float32
    gives_probabilities = name in ("body.onnx", "artifact.onnx")
    np.testing.assert_allclose(logits, log_softmax(wanted) if gives_probabilities else wanted, atol=1e-4)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    images, labels = digits().train.images, digits().train.labels
    assert teacher.accuracy(images, labels, ONE_THREAD).value == float((wanted.argmax(1) == labels).mean())
    raw = name == "artifact.onnx"
    assert teacher.input_words == (
        "images as they are" if raw else "images normalised as this study's networks get them"
    )


# --- probabilities and logits ----------------------------------------------------------------------------------------


class Outputs(nn.Module):
    """Gives the same outputs whatever the images are."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("row", rows)

    def forward(self, images: Tensor) -> Any:
        return self.row + 0 * images.flatten(1)[:, :1]  # type: ignore[operator]


def logits_of(row: list[float], folder: Path) -> np.ndarray:
    write_torchscript(Outputs(torch.tensor([row])), folder / "t.pt")
    logits: np.ndarray = load(folder / "t.pt").logits(digits().train.images[:2], ONE_THREAD)[0]
    return logits


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_probabilities_count_as_the_logits_that_they_came_from(temperature: float, tmp_path: Path) -> None:
    row = torch.linspace(-9, 5, 10)
    found = torch.from_numpy(logits_of(torch.softmax(row, 0).tolist(), tmp_path))
    torch.testing.assert_close(torch.softmax(found / temperature, 0), torch.softmax(row / temperature, 0))


def test_a_probability_of_zero_is_no_infinity(tmp_path: Path) -> None:
    found = logits_of([1.0] + [0.0] * 9, tmp_path)
    assert found[0] == 0
    assert np.isfinite(found).all()
    assert (found[1:] < -80).all()


@pytest.mark.parametrize("missing", [0.0, 0.01, -0.01])
def test_probabilities_may_be_rounded(missing: float, tmp_path: Path) -> None:
    found = logits_of([0.55 - missing] + [0.05] * 9, tmp_path)
    np.testing.assert_allclose(found, np.log([0.55 - missing] + [0.05] * 9), rtol=1e-5)


@pytest.mark.parametrize("row", [[-0.5, 1.5] + [0.0] * 8, [0.1] * 9 + [0.5], [5.0] * 10], ids=str)
def test_what_is_no_distribution_is_taken_for_logits(row: list[float], tmp_path: Path) -> None:
    np.testing.assert_array_equal(logits_of(row, tmp_path), np.array(row, np.float32))


# --- normalisation ---------------------------------------------------------------------------------------------------


class Pixels(nn.Module):
    """Gives back the first values of what it is given."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.classes]


def colour_data(dtype: str, layout: str) -> Dataset:
    """Three classes of 8×8 images with two channels."""
    rng = np.random.default_rng(0)
    labels = (np.arange(30) % 3).astype(np.int64)
    images = rng.integers(0, 255, (30, 8, 8, 2)) if dtype == "uint8" else rng.normal(5, 2, (30, 8, 8, 2))
    images = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
    split = Split(np.ascontiguousarray(images.astype(dtype)), labels)
    spec, names = InputSpec(dtype, split.images.shape[1:], layout), ("a", "b", "c")
    return Dataset(split, split, split, names, spec, digest_of({"train": split}, names, spec))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_are_normalised_as_the_recipe_says_or_as_the_studys_own(dtype: str, layout: str, tmp_path: Path) -> None:
    """The recipe's numbers are of pixels from 0 to 1, and of float arrays as they are."""
    dataset = colour_data(dtype, layout)
    write_torchscript(Pixels(3), tmp_path / "t.pt", (2, 8, 8))
    images = dataset.train.images.transpose(0, 3, 1, 2) if layout == "NHWC" else dataset.train.images
    first = images.reshape(30, -1)[:, :3].astype(np.float64)  # all of the first channel
    own = normalisation_of(dataset.train.images, dataset.input)
    plain = load(tmp_path / "t.pt", dataset)
    wanted = (first - own.mean[0]) / own.std[0]
    np.testing.assert_allclose(plain.logits(dataset.train.images, ONE_THREAD), wanted, rtol=1e-4, atol=1e-5)
    told = load(tmp_path / "t.pt", dataset, mean=(0.4, 0.1), std=(0.2, 0.3))
    wanted = (first / (255 if dtype == "uint8" else 1) - 0.4) / 0.2
    np.testing.assert_allclose(told.logits(dataset.train.images, ONE_THREAD), wanted, rtol=1e-4, atol=1e-5)
    assert told.input_words == "images normalised as the recipe says"
    assert told.digest != plain.digest


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_artifact_takes_the_data_as_it_is(dtype: str, layout: str, tmp_path: Path) -> None:
    dataset = colour_data(dtype, layout)
    network = make_network((2, 8, 8), 3)
    normalisation = normalisation_of(dataset.train.images, dataset.input)
    body = export_body(network, (2, 8, 8))
    (tmp_path / "t.onnx").write_bytes(attach_front_end(body, dataset.input, normalisation))
    teacher = load(tmp_path / "t.onnx", dataset)
    assert teacher.input_words == "images as they are"
    wanted = log_softmax(predict_logits(network, training_data(dataset)).numpy())
    np.testing.assert_allclose(teacher.logits(dataset.train.images, ONE_THREAD), wanted, atol=1e-4)


# --- digests ---------------------------------------------------------------------------------------------------------


def test_the_content_counts_and_not_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "a.onnx", tmp_path / "sub" / "b.onnx", tmp_path / "c.onnx"]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        write_body(make_network(seed=seed), path)
    one, same, other = (load(path) for path in paths)
    assert (one.sha256, one.digest) == (same.sha256, same.digest)
    assert one.sha256 != other.sha256
    assert one.digest != other.digest


def test_weights_beside_an_onnx_file_are_part_of_it(tmp_path: Path) -> None:
    write_onnx_in_parts(make_network(seed=0), tmp_path / "t.onnx")
    before = load(tmp_path / "t.onnx")
    data = tmp_path / "t.onnx.data"
    weights = bytearray(data.read_bytes())
    weights[3] ^= 0x80  # a sign
    data.write_bytes(weights)
    assert load(tmp_path / "t.onnx").sha256 != before.sha256


def test_weights_count_with_the_network_that_they_are_for(tmp_path: Path) -> None:
    """The same tensors may be read as different networks."""
    write_safetensors(make_network(), tmp_path / "t.safetensors")
    one = load(tmp_path / "t.safetensors", **OWN)
    pooled = ARCHITECTURES["convnet"] | {"stage1.pooling": "average"}
    other = load(tmp_path / "t.safetensors", family="convnet", architecture=pooled)
    assert one.sha256 == other.sha256
    assert one.digest != other.digest
    images = digits().train.images
    assert not np.allclose(one.logits(images, ONE_THREAD), other.logits(images, ONE_THREAD))


# --- what is refused -------------------------------------------------------------------------------------------------


def refuses(message: str, path: Path, dataset: Dataset | None = None, **config: Any) -> TeacherError:
    with pytest.raises(TeacherError, match=message) as caught:
        load(path, dataset, **config)
    assert caught.value.message.startswith(f"the teacher {path.name} ")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", ["t.onnx", "t.pt", "t.pt2"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path) -> None:
    refuses(f"is not there: .*{name} .a path is relative to the recipe", tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"], ids=["empty", "junk", "zip"])
@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("t.onnx", {}, "cannot be read: it is no ONNX file"),
        ("t.pt", {}, "is no TorchScript file"),
        ("t.pt2", {}, "is no exported program"),
        ("t.safetensors", OWN, "cannot be used: .*t.safetensors cannot be read as safetensors"),
        ("t.pth", OWN, "cannot be used: .*t.pth "),
    ],
)
def test_a_file_that_is_something_else(
    name: str, config: dict[str, Any], message: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    refuses(message, tmp_path / name, **config)
    assert capfd.readouterr().err == "", "torch prints tracebacks unless it is kept from it"


def test_files_of_torch_that_are_taken_for_one_another(tmp_path: Path) -> None:
    network = make_network()
    write_state_dict(network, tmp_path / "weights.pt")
    error = refuses("weights.pt is no TorchScript file", tmp_path / "weights.pt")
    assert "name the family and architecture of a state_dict" in error.hint
    write_torchscript(network, tmp_path / "script.pt2")
    refuses("script.pt2 is no exported program", tmp_path / "script.pt2")
    torch.save(network, tmp_path / "pickled.pt")
    refuses(
        "pickled.pt holds more than tensors, which is not loaded since it could run code",
        tmp_path / "pickled.pt",
        **OWN,
    )
    torch.save([1, 2], tmp_path / "list.pt")
    refuses("list.pt holds no state_dict but a list", tmp_path / "list.pt", **OWN)


def test_an_onnx_file_whose_weights_are_gone(tmp_path: Path) -> None:
    write_onnx_in_parts(make_network(), tmp_path / "t.onnx")
    (tmp_path / "t.onnx.data").unlink()
    refuses(r"cannot be read: .*t\.onnx\.data", tmp_path / "t.onnx")


@pytest.mark.parametrize(
    ("name", "write", "config"),
    [kind for kind in KINDS if kind[0] in ("artifact.onnx", "fixed.onnx", "script.pt", "fixed.pt2", "weights.pth")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_classes(name: str, write: Writer, config: dict[str, Any], tmp_path: Path) -> None:
    write(make_network(classes=7), tmp_path / name)
    refuses("gives 7 classes, but the data has 10$", tmp_path / name, **config)


@pytest.mark.parametrize(
    ("name", "write", "config", "message"),
    [
        ("t.onnx", write_body, {}, r"takes images of 3×8×8, but the data's are 1×8×8 \(C×H×W\)$"),
        ("t.onnx", write_artifact, {}, r"takes images of 8×8×3, but the data's are 8×8×1 \(H×W×C\)$"),
        ("t.pt2", write_program, {}, r"takes images of 3×8×8, but the data's are 1×8×8 \(C×H×W\)$"),
        ("t.pt", write_torchscript, {}, "cannot run on images of 1×8×8: .*to have 3 channels, but got 1"),
        (
            "t.safetensors",
            lambda network, path, shape: write_safetensors(network, path),
            OWN,
            r"convnet .* on images of 1×8×8 \(C×H×W\): its 'features.stem.0.weight' is 16×3×3×3, but must be 16×1×3×3",
        ),
    ],
    ids=["body", "artifact", "program", "torchscript", "weights"],
)
def test_images_of_another_shape(
    name: str, write: Callable[..., None], config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write(make_network((3, 8, 8)), tmp_path / name, (3, 8, 8))
    refuses(message, tmp_path / name, **config)


def test_a_teacher_of_flat_images(tmp_path: Path) -> None:
    weight = {"weight": np.zeros((64, 10), np.float32)}
    nodes = [helper.make_node("MatMul", ["images", "weight"], ["probabilities"])]
    (tmp_path / "t.onnx").write_bytes(make_model(nodes, weight, ["batch", 64]))
    refuses("takes images of 64, but the data's are 1×8×8", tmp_path / "t.onnx")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    network = make_network()
    network.classifier.bias.data[3] = value  # type: ignore[union-attr, operator]
    write_safetensors(network, tmp_path / "t.safetensors")
    refuses("'classifier.bias' holds NaN or infinity", tmp_path / "t.safetensors", **OWN)
    write_torchscript(network, tmp_path / "t.pt")
    refuses("gives NaN or infinity", tmp_path / "t.pt")


def test_a_file_that_was_traced_for_another_number_of_images(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:2].flatten(1)[:, :10]

    write_torchscript(Fixed(), tmp_path / "t.pt")
    error = refuses("gives 2×10 numbers for 64 images, but 64×10 logits or", tmp_path / "t.pt")
    assert error.hint == "export it for any number of images at a time"


class Several(nn.Module):
    """Gives two tensors, or one of another shape."""

    def __init__(self, network: nn.Module, second: bool) -> None:
        super().__init__()
        self.network = network
        self.second = second

    def forward(self, images: Tensor) -> Any:
        logits = self.network(images)
        return (logits, 2 * logits) if self.second else logits[:, :, None]


def test_outputs_that_are_no_logits(tmp_path: Path) -> None:
    both, deep = (Several(make_network(), second).eval() for second in (True, False))
    write_plain_onnx(both, tmp_path / "both.onnx")
    refuses("must have one output, but has 2: ", tmp_path / "both.onnx")
    write_torchscript(both, tmp_path / "both.pt")
    refuses("must give one tensor, but gives tuple", tmp_path / "both.pt")
    write_torchscript(deep, tmp_path / "deep.pt")
    refuses("gives 64×10×1 numbers for 64 images, but 64×10 logits or", tmp_path / "deep.pt")


class Sum(nn.Module):
    """Takes two inputs."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b).flatten(1)[:, :10]


def test_inputs_that_are_no_images(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["probabilities"]),
    ]
    (tmp_path / "half.onnx").write_bytes(make_model(nodes, {}, ["batch", 1, 8, 8], TensorProto.FLOAT16))
    refuses(r"takes tensor\(float16\)", tmp_path / "half.onnx")
    pair = (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    torch.export.save(torch.export.export(Sum(), pair), tmp_path / "two.pt2")
    refuses("must have one input, but has 2", tmp_path / "two.pt2")


def test_an_artifact_for_other_data(tmp_path: Path) -> None:
    bytes_, floats = colour_data("uint8", "NHWC"), colour_data("float32", "NHWC")
    for name, dataset in (("bytes.onnx", bytes_), ("floats.onnx", floats)):
        normalisation = normalisation_of(dataset.train.images, dataset.input)
        body = export_body(make_network((2, 8, 8), 3), (2, 8, 8))
        (tmp_path / name).write_bytes(attach_front_end(body, dataset.input, normalisation))
    refuses("takes uint8 images as they are, but the data is float32", tmp_path / "bytes.onnx", floats)
    refuses("takes float32 images as they are, but the data is uint8", tmp_path / "floats.onnx", bytes_)
    own = {"mean": (0.5, 0.5), "std": (0.5, 0.5)}
    error = refuses("normalises images itself", tmp_path / "bytes.onnx", bytes_, **own)
    assert error.hint == "leave out 'mean' and 'std'"


def test_a_normalisation_of_other_channels(tmp_path: Path) -> None:
    write_body(make_network(), tmp_path / "t.onnx")
    numbers = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    refuses(
        "cannot be used: 'mean' and 'std' are given for 3 channels, but the data has 1", tmp_path / "t.onnx", **numbers
    )


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("convnett", {}, "cannot be used: unknown family 'convnett'; did you mean 'convnet'"),
        ("convnet", {"stem.widht": 8}, "cannot be used: unknown choice of family 'convnet': 'stem.widht'"),
        ("convnet", {"stem.width": 24}, "do not fit family convnet .*: its 'features.stem.0.weight' is 16×1×3×3, but"),
        ("convnet", {"stage1.depth": 2}, "do not fit family convnet of that architecture .*: it lacks 'features"),
        ("convnet", {"stem.width": 8, "stages": 0}, "cannot be used: choice 'stages' must be"),
    ],
)
def test_weights_of_another_network(family: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_safetensors(make_network(), tmp_path / "t.safetensors")
    architecture = ARCHITECTURES["convnet"] | changes
    refuses(message, tmp_path / "t.safetensors", family=family, architecture=architecture)


def test_weights_of_a_deeper_network(tmp_path: Path) -> None:
    deeper = build("convnet", ARCHITECTURES["convnet"] | {"stage1.depth": 2}, (1, 8, 8), 10)
    write_safetensors(deeper, tmp_path / "t.safetensors")
    refuses("do not fit family convnet of that architecture .*: it has 'features", tmp_path / "t.safetensors", **OWN)

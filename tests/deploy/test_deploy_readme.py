"""The README's script, run as it stands where nothing but numpy, Pillow and ONNX Runtime can be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deploy_fakes import CLASS_NAMES, make_example
from PIL import Image

from nas.artifact import InputSpec, Resize
from nas.data.images import read_image
from nas.deploy import Deployment, Limits, choose, deploy, load_deployment, predict

# Runs a script (first argument) with the arguments after it, and saves the batch that it gave to the model.
ISOLATED = """
import sys

class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "PIL", "onnxruntime"} and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, OnlyThese())
for name in ("nas", "torch", "onnx"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported, so this proves nothing")
script = sys.argv.pop(1)
names = {"__name__": "__main__"}
exec(compile(open(script, encoding="utf-8").read(), script, "exec"), names)
import numpy
numpy.save("given.npy", names["batch"])
"""


def script_of(folder: Path) -> str:
    """The one Python block of a deployment's README."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    return block


def classify(folder: Path, file: Path) -> tuple[list[tuple[str, float]], np.ndarray]:
    """What the README's script prints for a file, and the batch that it gave to the model."""
    (folder / "classify.py").write_text(script_of(folder), encoding="utf-8")
    done = run(folder, file)
    assert done.returncode == 0, done.stderr
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    return [(name, float(share)) for name, share in lines], np.load(folder / "given.npy")


def run(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    # -I: neither this folder nor the environment's variables nor the user's packages; UTF-8 whatever the locale.
    command = [sys.executable, "-I", "-X", "utf8", "-c", ISOLATED, "classify.py", str(file)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
    )


def deployment_of(folder: Path, input: InputSpec) -> Deployment:
    example = make_example(folder / "study", input)
    deployed = deploy(
        example.study, choose(example.study, Limits(max_latency_ms=1)), folder / "deploy", example.dataset
    )
    return load_deployment(deployed.folder)


def picture(size: tuple[int, int], channels: int = 3) -> Image.Image:
    """A smooth picture with noise, so that every resizing filter gives other pixels."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    waves = [127 + 90 * np.sin(rows / (3 + i)) * np.cos(columns / (4 + i)) for i in range(channels)]
    noisy = np.stack(waves, axis=-1) + rng.normal(0, 12, (size[1], size[0], channels))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8).squeeze())


def transparent(image: Image.Image, transparency: bytes | int) -> Image.Image:
    palette = image.quantize(32)
    palette.info["transparency"] = transparency
    return palette


IMAGES: dict[str, Callable[[tuple[int, int]], Image.Image]] = {
    "rgb.png": picture,
    "grey.png": lambda size: picture(size, 1),
    "photo.jpg": picture,
    "cmyk.jpg": lambda size: picture(size).convert("CMYK"),
    "alpha.png": lambda size: picture(size, 4),
    "palette.gif": lambda size: picture(size).quantize(32),
    "clear.gif": lambda size: transparent(picture(size), 3),
    "shades.png": lambda size: transparent(picture(size), bytes(range(0, 256, 8))),
    "bits.bmp": lambda size: picture(size, 1).convert("1"),
}


@pytest.fixture(scope="module")
def resizing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Deployment]:
    """Deployments that resize, by the Pillow mode that they convert to."""
    return {
        mode: deployment_of(tmp_path_factory.mktemp(mode), InputSpec("uint8", (11, 7, channels), resize=Resize(11, 7)))
        for mode, channels in {"L": 1, "RGB": 3}.items()
    }


def check_image(deployment: Deployment, path: Path) -> None:
    printed, given = classify(deployment.folder, path)
    np.testing.assert_array_equal(given, read_image(path, deployment.input)[None])
    (prediction,) = predict(deployment, [path])
    assert printed == [(prediction.label, pytest.approx(prediction.probability, rel=1e-6))]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", IMAGES)
def test_the_script_reads_images_pixel_for_pixel_and_answers_as_predict(
    resizing: dict[str, Deployment], tmp_path: Path, name: str, mode: str
) -> None:
    IMAGES[name]((37, 23)).save(tmp_path / name)
    check_image(resizing[mode], tmp_path / name)


@pytest.mark.parametrize(
    "input",
    [
        InputSpec("uint8", (6, 5, 1)),
        InputSpec("uint8", (6, 5, 3)),
        InputSpec("uint8", (1, 6, 5), "NCHW", Resize(6, 5, "lanczos")),
        InputSpec("uint8", (3, 9, 8), "NCHW", Resize(9, 8, "nearest")),
    ],
    ids=lambda input: f"{input.layout}-{input.shape}",
)
def test_every_layout_and_filter(tmp_path: Path, input: InputSpec) -> None:
    height, width = input.channels_first[1:]
    picture((width, height) if input.resize is None else (37, 23)).save(tmp_path / "a.png")
    check_image(deployment_of(tmp_path, input), tmp_path / "a.png")


def test_the_filters_can_be_told_apart() -> None:
    """Else equal pixels would prove little."""
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)
    assert len({picture((37, 23)).resize((7, 11), filter).tobytes() for filter in filters}) == 3


@pytest.mark.parametrize(
    "input", [InputSpec("float32", (6, 5, 2)), InputSpec("uint8", (6, 5, 2))], ids=lambda input: input.dtype
)
def test_the_script_takes_arrays_where_the_model_does(tmp_path: Path, input: InputSpec) -> None:
    deployment = deployment_of(tmp_path, input)
    script = script_of(deployment.folder)
    assert "PIL" not in script
    batch = np.random.default_rng(0).uniform(0, 200, (3, *input.shape)).astype(input.dtype)
    for array in (batch, batch[2]):
        path = tmp_path / "array.npy"
        np.save(path, array)
        printed, given = classify(deployment.folder, path)
        np.testing.assert_array_equal(given, array.reshape(-1, *input.shape))
        expected = [(p.label, pytest.approx(p.probability, rel=1e-6)) for p in predict(deployment, [path])]
        assert printed == expected


class TestRefused:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = deployment_of(tmp_path, InputSpec("uint8", (6, 5, 1))).folder
        (folder / "classify.py").write_text(script_of(folder), encoding="utf-8")
        return folder

    def test_an_image_of_another_size_of_as_many_pixels(self, folder: Path, tmp_path: Path) -> None:
        picture((6, 5), 1).save(tmp_path / "turned.png")
        done = run(folder, tmp_path / "turned.png")
        assert done.returncode != 0
        assert "invalid dimensions" in done.stderr

    def test_an_image_of_more_than_eight_bits(self, folder: Path, tmp_path: Path) -> None:
        Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(tmp_path / "deep.png")
        done = run(folder, tmp_path / "deep.png")
        assert done.returncode == 1
        assert done.stderr.strip() == "convert the image to 8 bits for each value first"


def test_the_script_is_short(tmp_path: Path) -> None:
    script = script_of(deployment_of(tmp_path, InputSpec("uint8", (6, 5, 1))).folder)
    body = [line for line in script.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(body) <= 12
    assert max(map(len, script.splitlines())) <= 100


def test_class_names_of_any_script_are_printed(tmp_path: Path) -> None:
    deployment = deployment_of(tmp_path, InputSpec("uint8", (6, 5, 1)))
    shown = set()
    for seed in (0, 1):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 5), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        shown.add(classify(deployment.folder, tmp_path / "a.png")[0][0][0])
    assert shown <= set(CLASS_NAMES)
    assert len(shown) > 1

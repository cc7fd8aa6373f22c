"""Each harmful file by itself: refused with a NasError that says why, before it costs memory or time."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safety_inputs import aliases, idx_file, image_file, npz_file
from safety_models import TINY, cycle, external, function_bomb, function_circle, nested_ifs, with_dims, with_input
from safety_sandbox import deadline

from nas import data
from nas.artifact import InputSpec
from nas.data.images import read_image
from nas.deploy.upload import UploadError, read_upload
from nas.errors import (
    ArtifactError,
    DataError,
    ModuleError,
    NasError,
    RecipeError,
    SpaceError,
    StudyError,
    TeacherError,
)
from nas.families.weights import fit_weights, read_weights
from nas.profile.subject import invalid_refused
from nas.recipe import load_recipe
from nas.recipe_sections import DataConfig
from nas.safety import limits
from nas.safety.arrays import read_npy
from nas.safety.files import confined, read_bytes
from nas.safety.json_text import parse_json, read_json
from nas.safety.onnx_file import check_onnx, external_data_of, read_onnx
from nas.safety.printable import LONGEST, printable
from nas.safety.programs import announce_source, weights_only
from nas.safety.yaml_text import load_yaml
from nas.space import load_space
from nas.store import Store, write_atomically
from nas.teacher.networks import open_exported_program, open_onnx, read_file
from nas.train import Numerics

NUMERICS = Numerics("cpu", "float32", 1)
LAUGHS = aliases(30, 10)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine of 100 kB of memory, as far as data is concerned."""
    most = 100_000
    for module in ("nas.safety.arrays", "nas.data.idx", "nas.families.weights"):
        monkeypatch.setattr(f"{module}.most_data_bytes", lambda: most)
    return most


# --- YAML and JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "stands for more than 100,000 values, aliases written out"),
        (b"data: &a {source: *a}", "an alias stands for what holds it"),
        (b"seed: " + b"1:" * 20_000 + b"1", "a number has more than 400 digits"),
        (b"seed: 0x" + b"f" * 4_000, "a number has more than 400 digits"),
        (b"data: " + b"[" * 40 + b"]" * 40, "more than 32 lists and mappings lie within one another"),
        (b"seed: !!int ''", "a value cannot be read"),
        (b"#" * (limits.MOST_YAML_BYTES + 1), r"has more than 500\.0 kB"),
    ],
    ids=["laughs", "circle", "base 60", "hexadecimal", "deep", "empty number", "large"],
)
def test_yaml_that_does_harm(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(text)
    with deadline(), pytest.raises(RecipeError, match=message):
        load_recipe(tmp_path / "x.yaml")
    with deadline(), pytest.raises(SpaceError, match=message):
        load_space(str(tmp_path / "x.yaml"))


def test_aliases_that_do_no_harm_are_read() -> None:
    assert load_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {d: 1}, e: *a}") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": 1, "e": [1, 2]},
    }


def test_values_are_counted_as_often_as_they_are_named() -> None:
    wide = "[" + ", ".join(["x"] * 999) + "]"  # 1,000 values with the list itself
    load_yaml(f"a: &a {wide}\nb: [{', '.join(['*a'] * 98)}]")
    with pytest.raises(yaml.YAMLError, match="100,000 values"):
        load_yaml(f"a: &a {wide}\nb: [{', '.join(['*a'] * 99)}]")


def test_json_that_lies_too_deep_is_no_json() -> None:
    with pytest.raises(ValueError, match="too deep"):
        parse_json("[" * 100_000)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    os.mkfifo(path)
    for read in (load_recipe, lambda path: load_space(str(path)), read_json, lambda path: read_file(path)):
        with deadline(5), pytest.raises(NasError, match="is no plain file"):
            read(path)


def test_a_device_is_not_read() -> None:
    with deadline(5), pytest.raises(RecipeError, match="/dev/zero is no plain file"):
        load_recipe(Path("/dev/zero"))


def test_a_file_is_read_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert read_bytes(tmp_path / "a", 10, NasError) == b"x" * 10
    with pytest.raises(NasError, match="more than 9 bytes"):
        read_bytes(tmp_path / "a", 9, NasError)


# --- names in files


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "C:\\x", "\\\\host\\x", "a\0b", "out", "out/a", "loop"]
)
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(ArtifactError, match="does not lie in its folder"):
        confined(folder, name, ArtifactError, "x")


def test_a_name_within_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "a/b", "link/b", "./a"):
        assert confined(tmp_path, name, ArtifactError, "x") == tmp_path / name


def test_a_digest_from_a_record_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    store = Store(tmp_path / "cache", 10)
    for name in ("../../secret", "", "AB" * 32, "/etc/passwd"):
        with pytest.raises(StudyError, match="has no name such as"):
            store.blob_path(name)


def test_an_index_that_is_nested_too_deep_is_a_damaged_one(tmp_path: Path) -> None:
    store = Store(tmp_path, 10)
    write_atomically(tmp_path / "keys/k.json", b"[" * 100_000)
    assert store.get("k") is None


def test_eviction_passes_over_what_it_did_not_write(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache", 10)
    store.put("k", b"x" * 100, {})
    (tmp_path / "cache/blobs/folder").mkdir()
    (tmp_path / "precious").write_bytes(b"x" * 100)
    (tmp_path / "cache/blobs/link").symlink_to(tmp_path / "precious")
    assert store.evict(()) == 100
    assert (tmp_path / "precious").exists()


# --- arrays


def _npz(path: Path, **arrays: np.ndarray) -> DataConfig:
    path.write_bytes(npz_file(**arrays))
    return DataConfig(source="npz", path=path)


def test_an_npz_bomb_is_not_unpacked(tmp_path: Path, little_memory: int) -> None:
    config = _npz(tmp_path / "a.npz", images=np.zeros((100, 40, 40), np.uint8), labels=np.arange(100) % 2)
    assert (tmp_path / "a.npz").stat().st_size < 2_000
    with pytest.raises(DataError, match=r"a\.npz would take 161\.\d kB of memory, but this machine has 100\.0 kB"):
        data.load(config)


def _header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(10000000000000,)", r"is damaged: its header states 10\.0 TB, but 4 bytes are there"),
        ("(-1,)", "is damaged"),
        ("(" * 90, "has a damaged header"),
        ("(" + "-" * 95 + "1,)", "has a damaged header"),
        ("open('x')", "has a damaged header"),
    ],
)
def test_a_header_of_an_array_is_not_believed(tmp_path: Path, shape: str, message: str) -> None:
    content = _header(shape) + b"abcd"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("images", "labels"):
            archive.writestr(f"{name}.npy", content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's parser on what the header holds
        with deadline(), pytest.raises(DataError, match=f"array 'images' {message}"):
            data.load(DataConfig(source="npz", path=tmp_path / "a.npz"))
        with deadline(), pytest.raises(DataError, match=message):
            read_npy(io.BytesIO(content), len(content), "x.npy")


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images", b"text")
        archive.writestr("labels.npy", b"text")
    with pytest.raises(DataError, match="array 'images' is no array"):
        data.load(DataConfig(source="npz", path=tmp_path / "a.npz"))


def test_read_npy_reads_what_numpy_wrote() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6).reshape(2, 3))
    buffer.seek(0)
    assert read_npy(buffer, buffer.getbuffer().nbytes, "x").tolist() == [[0, 1, 2], [3, 4, 5]]
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    pickled.seek(0)
    with pytest.raises(DataError, match="holds Python objects"):
        read_npy(pickled, 999, "x")


# --- IDX


def _idx(folder: Path, images: bytes, suffix: str = "") -> DataConfig:
    (folder / f"train-images-idx3-ubyte{suffix}").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_file((30,), 0)[:8] + bytes(range(3)) * 10)
    return DataConfig(source="idx", path=folder)


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_states(tmp_path: Path) -> None:
    config = _idx(tmp_path, gzip.compress(idx_file((30, 2, 2), 0)[:16] + bytes(50_000_000), 1), ".gz")
    with deadline(5), pytest.raises(DataError, match=r"must hold 120 values.*but holds 121 or more"):
        data.load(config)


def test_a_gzip_bomb_that_states_its_size_is_not_unpacked(tmp_path: Path, little_memory: int) -> None:
    config = _idx(tmp_path, gzip.compress(idx_file((30, 100, 100), 0)[:16] + bytes(300_000)), ".gz")
    with pytest.raises(DataError, match=r"would take 300\.0 kB of memory"):
        data.load(config)


def test_a_header_that_states_too_much_allocates_nothing(tmp_path: Path) -> None:
    config = _idx(tmp_path, idx_file((2**32 - 1, 2**32 - 1, 2**32 - 1), 60)[:76])
    with deadline(5), pytest.raises(DataError, match="but holds 60"):
        data.load(config)


# --- images


def test_an_image_of_a_format_that_starts_programs_is_none(tmp_path: Path) -> None:
    """Pillow reads EPS by running Ghostscript, whatever the file's name says."""
    (tmp_path / "a.png").write_bytes(image_file("EPS"))
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(tmp_path / "a.png", InputSpec("uint8", (4, 5, 3)))


@pytest.mark.parametrize("pillow", [None, 10**12])
def test_pixels_are_counted_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillow: int | None
) -> None:
    """Also where other code switched Pillow's own limit off."""
    Image.new("1", (30_000, 3_000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow)
    with deadline(5), pytest.raises(DataError, match="more pixels than are safe to decode"):
        read_image(tmp_path / "a.png", InputSpec("uint8", (4, 5, 3)))


def test_images_are_not_blown_up(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(image_file("PNG"))
    with pytest.raises(DataError, match=r"would take .* of memory"):
        data.load(DataConfig(source="folder", path=tmp_path, resize=(10**6, 10**7)))


def test_a_pipe_among_images_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a/1.png")
    with deadline(5), pytest.raises(DataError, match="is no plain file"):
        data.load(DataConfig(source="folder", path=tmp_path))


def test_an_image_of_a_data_set_that_lies_elsewhere_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would open the path, or ask the address."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = {"image": [{"bytes": None, "path": "https://example.com/a.png"}] * 4, "label": [0, 1, 0, 1]}
    rows = datasets.Dataset.from_dict(table, features=features)
    monkeypatch.setattr(datasets, "load_from_disk", lambda *_, **__: rows)
    with pytest.raises(DataError, match=r"image 0 of train is not in the data set, which only says where it lies"):
        data.load(DataConfig(source="huggingface", path=tmp_path))


# --- uploads


def test_texts_among_numbers_take_no_memory() -> None:
    """NumPy would make room for each to be as long as the longest: 10,000 times 4 MB."""
    content = b'["' + b"x" * 10**6 + b'"' + b', ""' * 10_000 + b"]"
    with deadline(5), pytest.raises(UploadError, match="must hold numbers only") as caught:
        read_upload(content, "application/json", InputSpec("float32", (2, 3, 1)))
    assert caught.value.status == 422


@pytest.mark.parametrize("content", [b"[[1], {}]", b'[[1], "x"]', b"[[null]]", b"[[1], 2]", b"[[]]"])
def test_lists_of_anything_else_are_refused(content: bytes) -> None:
    with pytest.raises(UploadError, match="must"):
        read_upload(content, "application/json", InputSpec("float32", (2, 3, 1)))


# --- ONNX


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: function_bomb(9, 10), "stands for more than 50,000 nodes, its functions written out"),
        (function_circle, "calls itself"),
        (lambda: function_bomb(80, 1), "calls itself, or too many within one another"),
        (lambda: nested_ifs(20), "more than 16 graphs within one another"),
        (lambda: with_dims([2**31, 2**31]), "states a tensor of 2147483648×2147483648 elements"),
        (lambda: with_dims([-4, 4]), "a size below 0"),
        (lambda: with_input([1, 2**62]), "states a tensor of"),
        (lambda: with_input([2**31]), "states a value of one dimension and 2,147,483,648 elements"),
        (lambda: TINY[:-40], "is no ONNX file, or is damaged"),
        (lambda: b"", "is no ONNX file"),
        (lambda: b"\x10\0\0\0ORTM" + bytes(90), "is no ONNX file"),
        (lambda: external("w.bin"), "weights lie in another file"),
        (lambda: external("*/_ORT_MEM_ADDR_/*", offset=4096, length=192), "weights lie in another file"),
    ],
)
def test_onnx_files_that_do_harm(make: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    content = make()
    with deadline(), pytest.raises(ArtifactError, match=message):
        check_onnx(content, "x.onnx")
    with deadline(), pytest.raises(TeacherError, match=message):
        open_onnx(content, NUMERICS)


def test_a_valid_model_passes() -> None:
    for content in (TINY, nested_ifs(3), function_bomb(3, 3), cycle()):  # a circle of nodes is the runtime's to see
        check_onnx(content, "x.onnx")
        assert external_data_of(content, "x.onnx") == ()


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "link", "", "w.bin/../../w.bin", "*/_ORT_MEM_ADDR_/*"])
def test_weights_outside_lie_beside_the_file(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(192))
    (folder / "link").symlink_to(tmp_path / "w.bin")
    (folder / "t.onnx").write_bytes(external(location))
    with pytest.raises(TeacherError, match=r"names the file|weights lie in"):
        read_file(folder / "t.onnx")


@pytest.mark.parametrize("entries", [{"offset": 10**9}, {"length": 10**9}, {"offset": "x"}, {"offset": -1}])
def test_weights_outside_are_there(tmp_path: Path, entries: dict[str, object]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(192))
    (tmp_path / "t.onnx").write_bytes(external("w.bin", **entries))
    with pytest.raises(TeacherError, match="weights lie in"):
        read_file(tmp_path / "t.onnx")


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(192))
    (tmp_path / "t.onnx").write_bytes(external("w.bin"))
    assert external_data_of(read_file(tmp_path / "t.onnx"), "t") == ()
    assert read_onnx(tmp_path / "t.onnx") == external("w.bin")


def test_an_invalid_model_is_no_bug() -> None:
    with pytest.raises(ArtifactError, match=r"x\.onnx is no valid ONNX model"), invalid_refused(cycle(), "x.onnx"):
        raise IndexError
    with pytest.raises(IndexError), invalid_refused(function_bomb(2, 2), "x.onnx"):  # a bug of ours stays one
        raise IndexError


# --- programs and weights


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch written",))


def test_an_exported_program_unpickles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself would: an exported program keeps example inputs, and constants, as pickles of any object."""
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    evil = io.BytesIO()
    torch.save({"a": _Evil()}, evil)
    content = io.BytesIO()
    replaced = []
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            pickled = "sample_inputs" in name
            new.writestr(name, evil.getvalue() if pickled else old.read(name))
            replaced += [name] if pickled else []
    assert replaced
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TeacherError):
        open_exported_program(content.getvalue(), NUMERICS)
    assert not (tmp_path / "written").exists()


def test_weights_only_puts_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    content = io.BytesIO()
    torch.save(_Evil(), content)
    content.seek(0)
    with weights_only(), pytest.raises(pickle.UnpicklingError):
        torch.load(content, weights_only=False)
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_an_archive_of_weights_that_unpacks_to_more_than_memory(tmp_path: Path, little_memory: int) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(ModuleError, match=r"would take 1\.0 MB of memory"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 2, device="meta"),
        torch.zeros(2, 2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
    ],
    ids=["meta", "complex", "sparse"],
)
def test_weights_are_plain_tensors(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"weight": tensor}, tmp_path / "w.pt")
    with pytest.raises(ModuleError, match="another kind of tensor"):
        read_weights(tmp_path / "w.pt")


def test_floats_of_8_bits_are_looked_through_for_nan() -> None:
    network = torch.nn.Linear(2, 1, bias=False)
    fit_weights(network, {"weight": torch.ones(1, 2).to(torch.float8_e4m3fn)}, "w", "it")
    assert network.weight.tolist() == [[1, 1]]
    with pytest.raises(ModuleError, match="holds NaN"):
        fit_weights(network, {"weight": torch.full((1, 2), torch.nan).to(torch.float8_e4m3fn)}, "w", "it")


# --- what is said


def test_text_from_a_file_is_one_line_for_a_terminal() -> None:
    assert printable("a\nb\x1b[2Jc\ud800") == "a b�[2Jc�"
    assert printable("é×…") == "é×…"
    assert len(printable("x" * 10**6)) == LONGEST + 1


def test_a_source_that_is_run_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        announce_source("a_module_of_this_test")
    assert capsys.readouterr().err == "runs a_module_of_this_test\n"

"""The agent where only numpy and ONNX Runtime are installed: in a virtual environment that holds nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from onnx_models import tiny_artifact
from packaging.requirements import Requirement
from remote_agents import ROOT, SHORT, TARGET, TOKEN, started, url_in

from nas.errors import UnsupportedError
from nas.measure.remote.measurer import RemoteMeasurer

IMAGES = np.zeros((3, 4, 4, 1), np.uint8)

pytestmark = [
    pytest.mark.usefixtures("own_lease"),
    pytest.mark.skipif(sys.platform == "win32", reason="packages are linked, which needs rights there"),
]


def needed(names: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Packages with all that they need in turn, without extras."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = metadata.distribution(name)
            requirements = [Requirement(text) for text in found[name].requires or ()]
            waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def environment_with(folder: Path, *names: str) -> Path:
    """The interpreter of a new virtual environment that has these packages and theirs, taken from the one that runs."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in needed(names).values():
        tops = {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(environment_with(tmp_path_factory.mktemp("minimal") / "venv", "numpy", "onnxruntime"))


@pytest.fixture
def device(python: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with started("--port", "0", python=python, cwd=tmp_path) as running:
        yield running


@pytest.mark.parametrize("name", ["torch", "optuna", "pydantic", "onnx", "typer", "scipy", "sklearn", "yaml", "rich"])
def test_there_is_nothing_else(python: str, name: str) -> None:
    done = subprocess.run([python, "-c", f"import {name}"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr


def test_it_measures_there_and_ends_cleanly(device: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    process, line = device
    with RemoteMeasurer(url_in(line), TOKEN, SHORT) as measurer:
        assert (measurer.machine["torch"], measurer.machine["onnx"]) == ("not installed", "not installed")
        assert measurer.machine["onnxruntime"] == metadata.version("onnxruntime")
        quantity, samples = measurer.measure(tiny_artifact(), TARGET, IMAGES)
        assert quantity.value > 0
        assert len(samples) == quantity.detail["samples"]
        assert quantity.detail["overhead_ms"] > 0  # type: ignore[operator]
        assert measurer.outputs(tiny_artifact(), TARGET, IMAGES).shape == (3, 3)
        assert len(measurer.turns([tiny_artifact(), tiny_artifact(4)], TARGET, IMAGES, rounds=2).samples_ns) == 2
        load, memory = measurer.startup(tiny_artifact(), TARGET, IMAGES)
        assert (load.name, memory.name) == ("load_ms", "peak_memory_bytes")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "stopped; requests answered: 5\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_token_is_printed_only_where_it_was_made(python: str, tmp_path: Path) -> None:
    with started("--port", "0", python=python, cwd=tmp_path) as (_, line):
        assert "token" not in line
    with started("--port", "0", python=python, cwd=tmp_path, variables={"NAS_TOKEN": ""}) as (_, line):
        made = line.rpartition("token: ")[2]
        assert RemoteMeasurer(url_in(line), made, SHORT).environment_id(TARGET)
    file = tmp_path / "token"
    file.write_text("another-token-of-a-file\n")
    with started("--port", "0", "--token-file", "token", python=python, cwd=tmp_path) as (_, line):
        assert "token" not in line
        assert RemoteMeasurer(url_in(line), "another-token-of-a-file", SHORT).environment_id(TARGET)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "99999"], "--port must be from 0 to 65535, but got 99999"),
        (["--limit-mb", "0"], "--limit-mb must be at least 1, but got 0"),
        (["--token-file", "/gone"], "error: the token file /gone cannot be read"),
        (["--host", "256.0.0.1"], "error: the agent cannot listen on 256.0.0.1, port 8765"),
    ],
)
def test_what_it_refuses_is_told_in_a_line(python: str, words: list[str], message: str) -> None:
    command = [python, "-m", "nas.measure.remote.agent", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runtime_that_is_missing_is_told(tmp_path: Path) -> None:
    python = environment_with(tmp_path / "venv", "numpy")
    with started("--port", "0", python=str(python)) as (_, line):
        measurer = RemoteMeasurer(url_in(line), TOKEN, SHORT)
        for name in ("onnxruntime-cpu-1t-b1", "onnxruntime-cuda-b1"):
            with pytest.raises(UnsupportedError, match=rf"'{name}': ONNX Runtime is not installed") as caught:
                measurer.environment_id(TARGET.parse(name))
            assert caught.value.hint.startswith("pip install onnxruntime")

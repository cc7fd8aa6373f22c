"""The command line on harmful files: an exit code, one line and a hint, no traceback, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
from safety_inputs import aliases
from safety_models import TINY, external, function_bomb, with_dims
from safety_sandbox import deadline, sandbox

from nas.cli import main

MINIMAL = b"""data: {source: digits}
space: convnet
objectives: [accuracy, latency_ms@onnxruntime-cpu-1t-b1]
budget: {trials: 1}
"""


def run(*arguments: str) -> int:
    """The exit code that ``nas`` with these arguments ends with in this process."""
    with pytest.MonkeyPatch.context() as patch, deadline(60):
        patch.setattr(sys, "argv", ["nas", *arguments])
        patch.delenv("NAS_DEBUG", raising=False)
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "files", "words"),
    [
        (["search", "r.yaml"], {"r.yaml": aliases(30, 10)}, "aliases written out"),
        (["search", "r.yaml"], {"r.yaml": b"[" * 400_000}, "within one another"),
        (["search", "r.yaml"], {"r.yaml": MINIMAL + b'"a\\nb\\e[2J": 1'}, "unknown key"),
        (["profile", "s.yaml"], {"s.yaml": b"family: &a [*a]"}, "an alias stands for what holds it"),
        (["profile", "d.json"], {"d.json": b"[" * 100_000}, "too deep"),
        (["profile", "m.onnx"], {"m.onnx": function_bomb(9, 10)}, "functions written out"),
        (["profile", "m.onnx"], {"m.onnx": external("/etc/passwd")}, "weights lie in another file"),
        (["measure", "m.onnx"], {"m.onnx": external("../canary.bin")}, "weights lie in another file"),
        (["measure", "m.onnx"], {"m.onnx": with_dims([2**40, 2**40])}, "more than any can have"),
        (["verify", "d"], {"d/deployment.json": b"[" * 100_000}, "is no JSON"),
        (["verify", "d"], {"d/deployment.json": b'{"version": 2}', "d/model.onnx": TINY}, "is damaged"),
        (["front", "s"], {"s/recipe.yaml": MINIMAL, "s/trials/00000.json": b"[" * 100_000}, "too deep"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_harmful_files_end_in_a_line(
    arguments: list[str], files: Mapping[str, bytes], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with sandbox(files):
        code = run(*arguments)
    said = capfd.readouterr().err
    lines = said.rstrip("\n").split("\n")
    assert code in (1, 2)
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("  "))
    assert words in said
    assert "\x1b" not in said


def test_the_same_in_a_process_of_its_own() -> None:
    with sandbox({"r.yaml": aliases(30, 10)}) as folder:
        done = subprocess.run(
            [sys.executable, "-c", "from nas.cli import main; main()", "search", "r.yaml"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            # Another test of this process may have asked for tracebacks.
            env={name: value for name, value in os.environ.items() if name != "NAS_DEBUG"},
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr

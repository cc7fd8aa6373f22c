"""A process in which native code is let at model files, so that one that crashes or hangs costs itself alone.

It reads ``TARGET FOLDER`` lines and answers each with a line of JSON: ``ok``, ``refused`` with the message, or
``failed`` with the traceback.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO

# Of address space, most of which is libraries': what asks for more gets a MemoryError instead of all memory.
MOST_BYTES = 12 * 2**30
SECONDS = 60.0


class Worker:
    """The process, started when it is first needed and again after it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, target: str, folder: Path) -> tuple[str, str]:
        """What the target made of the folder's file: a state, and what was said. ``died`` and ``hung`` are states."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            if self._line() is None:
                raise RuntimeError("the worker does not start")
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(f"{target} {folder}\n")
        stdin.flush()
        line = self._line()
        if line:
            state, words = json.loads(line)
            return str(state), str(words)
        state = "hung" if line is None else "died"
        self.close()
        return state, ""

    def _line(self) -> str | None:
        """The next line; empty where the process ended, None where none came in time."""
        assert self.process is not None
        stdout: IO[str] | None = self.process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], SECONDS)
        return stdout.readline() if ready else None

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _serve() -> None:
    from safety_model_targets import MODEL_TARGETS

    from nas.errors import NasError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not come between
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    print('["started", ""]', file=answers, flush=True)
    for line in sys.stdin:
        target, _, folder = line.rstrip("\n").partition(" ")
        try:
            MODEL_TARGETS[target](Path(folder))
            answer = ["ok", ""]
        except NasError as error:
            answer = ["refused", str(error)]
        except BaseException:
            answer = ["failed", traceback.format_exc()]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import nas  # noqa: F401 - before torch, which reads what this sets of OpenMP

    _serve()

"""The same readers under a fuzzer that follows the code's branches: ``python tests/safety/atheris_fuzz.py TARGET``.

It needs the package ``atheris`` (``pip install atheris``), which is no dependency. Further arguments are libFuzzer's:
``-max_total_time=60``, ``-runs=10000``, a folder of inputs. What it finds it writes into the current folder as
``crash-…``; ``python tests/safety/atheris_fuzz.py TARGET crash-…`` shows it again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

try:
    import atheris
except ImportError:
    sys.exit("this needs atheris: pip install atheris")

with atheris.instrument_imports(include=["nas"]):
    from safety_sandbox import tried
    from safety_targets import FILES, TARGETS


def main() -> None:
    """Lets the fuzzer at the target that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in FILES:
        sys.exit(f"name a target: {', '.join(FILES)}")
    name = sys.argv.pop(1)
    target, file = TARGETS[name], FILES[name]
    atheris.Setup(sys.argv, lambda content: tried(target, {file: content}) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""The command ``nas``, also as ``python -m nas``: whoever interrupts it while it is still loading gets no traceback."""

import sys


def main() -> None:
    """Runs the command line."""
    try:
        from nas.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

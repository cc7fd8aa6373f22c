"""Lets the tests here make a study and a deployment as those of ``nas.deploy`` do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "deploy"))

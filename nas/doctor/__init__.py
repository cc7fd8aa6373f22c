"""What this machine can measure and compress, what is missing and how to install it, and how noisy it is right now.

It imports neither torch nor any runtime: what these say of themselves, the measuring process asks them.
"""

from __future__ import annotations

from nas.doctor.examine import Tools, examine
from nas.doctor.findings import Diagnosis

__all__ = ["Diagnosis", "Tools", "examine"]

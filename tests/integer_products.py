"""What a test of exact integer arithmetic needs of the machine."""

from __future__ import annotations

import pytest

from nas.measure.environment import has_vnni

SATURATES = not has_vnni()
# Without VNNI, products of 8-bit activations and 8-bit weights are added in pairs into 16 bits, which overflow. The
# pipeline takes weights of 7 bits on such a processor; what is tested with 8 bits does not hold there.
REASON = "products of two 8-bit numbers saturate on this processor"
exact_integers = pytest.mark.skipif(SATURATES, reason=REASON)


def skip_where_integers_saturate(form: str) -> None:
    """Skips the running test where its form, such as ``8/8``, computes with 8-bit weights and activations."""
    if SATURATES and form == "8/8":
        pytest.skip(REASON)

"""How many channels pruning leaves of a layer: of one, or of thousands at once as of networks that are not built."""

from __future__ import annotations

import numpy as np

# Vector units work in blocks of eight channels, so widths are rounded to this where the layer is wide enough.
CHANNEL_MULTIPLE = 8
WIDE_ENOUGH = 4  # multiples; a narrower layer is rounded to half of it
# No layer is left with fewer channels than these (or than it had): a bottleneck that narrow destroys the network.
# Whoever asks for a finer rounding asks for narrower layers: then a multiple is enough, but never a single channel.
MINIMUM_CHANNELS = 8
FEWEST_CHANNELS = 2
MINIMUM_SHARE = 0.25


def channels_left(
    width: np.ndarray, ratio: np.ndarray | float, rounding: np.ndarray | int = CHANNEL_MULTIPLE
) -> np.ndarray:
    """How many of ``width`` channels stay when about ``ratio`` of them are to go.

    Rounded to the nearest multiple of ``rounding`` where the layer has four multiples or more, of half of it below.
    Never under a quarter of the channels, which is rounded up, nor under 8 channels; with a rounding below 8 never
    under one multiple, nor under 2 channels. A ratio of 0 keeps all, whatever the width.

    Args:
        width: Channels before, at least 1; N whole numbers, as the result.
        ratio: Share to remove, 0 to less than 1.
        rounding: 1 or more.
    """
    width, ratio, rounding = np.asarray(width), np.asarray(ratio), np.asarray(rounding)
    multiple = np.where(width >= WIDE_ENOUGH * rounding, rounding, np.maximum(1, rounding // 2))
    wanted = multiple * np.round(width * (1 - ratio) / multiple)
    quarter = multiple * np.ceil(width * MINIMUM_SHARE / multiple)
    fewest = np.minimum(MINIMUM_CHANNELS, np.maximum(FEWEST_CHANNELS, rounding))
    return np.asarray(np.where(ratio == 0, width, np.minimum(width, np.maximum(np.maximum(wanted, quarter), fewest))))


def channels_to_keep(width: int, ratio: float, rounding: int = CHANNEL_MULTIPLE) -> int:
    """The same of one layer."""
    return int(channels_left(np.array(width), ratio, rounding))

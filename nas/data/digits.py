"""The embedded data set: 1,797 handwritten digits of 8×8 pixels, from the UCI repository by way of scikit-learn."""

from __future__ import annotations

import numpy as np

from nas.data.source import RawData, Samples, source
from nas.recipe_sections import DataConfig


@source("digits")
def read_digits(config: DataConfig) -> RawData:
    """The digits as uint8 from 0 to 16, the values that the data set holds (it counts set pixels in 4×4 blocks)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return RawData(Samples(data.images.astype(np.uint8), data.target))

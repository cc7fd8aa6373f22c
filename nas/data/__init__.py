"""Data sets: read from where they lie, checked, split into train, validation and test, kept in memory.

``load`` is the way in. Importing this package imports neither scikit-learn nor Pillow; a source imports what it needs
when it reads.
"""

from nas.data import digits, folder, huggingface, idx, npz, python  # noqa: F401 - importing a source's module registers it
from nas.data.dataset import Dataset, Split
from nas.data.images import read_image
from nas.data.loading import load
from nas.data.normalise import Normalisation, given_normalisation, normalisation_of
from nas.data.source import sources

__all__ = [
    "Dataset",
    "Normalisation",
    "Split",
    "given_normalisation",
    "load",
    "normalisation_of",
    "read_image",
    "sources",
]

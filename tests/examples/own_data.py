from sklearn.datasets import load_digits


def load():
    digits = load_digits()
    return digits.images.astype("uint8"), digits.target  # N×8×8, N

"""Small networks of which channels are pruned, and what their tests look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (2, 16, 12)
CLASSES = 40  # enough of them to be pruned away, were they not spared


def run(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    with torch.no_grad():
        return model(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)))


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


class Plain(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x)).mean((2, 3)))


def plain(seed: int = 0) -> Plain:
    torch.manual_seed(seed)
    return Plain().eval()


class Residual(Plain):
    """The second convolution's outputs are added to its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier((x + self.second(x)).mean((2, 3)))

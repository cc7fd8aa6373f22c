"""Ways around slow kernels: where they are taken, and that they change nothing but time and rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nas.train import fast_kernels, seeded

CPU = torch.device("cpu")


def network(groups: int = 8) -> nn.Sequential:
    with seeded(0, 1):
        layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 5, padding=2, groups=groups),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )
    return layers.to(memory_format=torch.channels_last)


def images() -> Tensor:
    return torch.randn(6, 1, 9, 9, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last
    )


def outputs_of(model: nn.Sequential, precision: str) -> list[Tensor]:
    seen: list[Tensor] = []
    for layer in model:
        layer.register_forward_hook(lambda module, _, output: seen.append(output))
    with fast_kernels(CPU, precision):
        model(images())
    return seen


def test_only_depthwise_convolutions_stay_in_float32() -> None:
    kinds = [output.dtype for output in outputs_of(network(), "bfloat16")]
    assert (kinds[0], kinds[3], kinds[8]) == (torch.bfloat16, torch.float32, torch.bfloat16)
    assert outputs_of(network(groups=2), "bfloat16")[3].dtype == torch.bfloat16
    assert all(output.dtype == torch.float32 for output in outputs_of(network(), "float32"))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("named", [False, True])
def test_a_convolution_that_is_called_as_a_function_is_seen_too(named: bool) -> None:
    image, weight = torch.randn(2, 8, 5, 5), torch.randn(8, 1, 3, 3)
    with fast_kernels(CPU, "bfloat16"):
        if named:
            result = nn.functional.conv2d(image.bfloat16(), weight, padding=1, groups=8)
        else:
            result = nn.functional.conv2d(image.bfloat16(), weight, None, 1, 1, 1, 8)
    assert result.dtype == torch.float32


@pytest.mark.parametrize("ending", [nn.AdaptiveAvgPool2d(1), nn.Flatten()])
def test_gradients_of_the_last_map_lie_as_the_map_does(ending: nn.Module) -> None:
    head = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), ending).to(memory_format=torch.channels_last)
    layouts: list[bool] = []

    def see(module: nn.Module, _: object, output: Tensor) -> None:
        output.register_hook(lambda g: layouts.append(g.is_contiguous(memory_format=torch.channels_last)))

    head[0].register_forward_hook(see)
    with fast_kernels(CPU, "float32"):
        result = head(images())
    result.sum().backward()
    assert layouts == [True], "what the rectifier hands on"


def test_in_float32_outputs_and_gradients_are_what_they_are_without() -> None:
    found = []
    for around in (False, True):
        model = network()
        if around:
            with fast_kernels(CPU, "float32"):
                logits = model(images())
        else:
            logits = model(images())
        logits.square().sum().backward()
        found.append([logits.detach(), *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

"""Networks of torchvision for tests, with and without weights."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision import models
from torchvision.models.feature_extraction import get_graph_node_names


class Weightless(TorchFunctionMode):
    """Weights without memory; what a builder computes with is left as it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        meta = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **meta})


def build(name: str, *, weights: bool = False, **given: object) -> nn.Module:
    """A network of torchvision, ready to evaluate; without `weights` in memory nobody touches."""
    options: dict[str, Any] = dict(given)
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    torch.manual_seed(0)
    if weights:
        return models.get_model(name, **options).eval()
    with Weightless():
        module = models.get_model(name, **options).eval()
    return module.to_empty(device="cpu")


class Small(nn.Module):
    """In-place, shared, residual, functional: what makes reading hard."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.same = nn.Identity()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), self.relu, self.relu)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        y = self.same(self.drop(self.block(x)))
        y += x
        z = y.view(y.shape[0], 4, -1)
        z.mul_(0.5)
        z[:, 0] = 1.0
        first, _ = y.chunk(2, dim=1)
        return self.head(torch.cat([first, 1 - first], 1).mean((2, 3))).clamp_(min=0)


def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


def fx_names(module: nn.Module) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_graph_node_names(module, suppress_diff_warning=True)[1]

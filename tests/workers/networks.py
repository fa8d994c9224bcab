"""Networks of torchvision for tests, with and without weights."""

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models


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

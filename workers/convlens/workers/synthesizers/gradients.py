"""Gradients through what a picture is made of."""

import torch
from torch import Tensor


def led_back(slope: Tensor, made: Tensor, of: Tensor) -> Tensor:
    """The gradient by what something was made of, where `slope` is the one by what was made.

    As a product: given a slope of its own, torch loads sympy, for seconds in which the runner would
    compute for nobody.
    """
    with torch.enable_grad():
        total = (made * slope).sum()
    [gradient] = torch.autograd.grad(total, of)
    return gradient

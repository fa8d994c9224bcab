"""How rectifiers and poolings take a gradient back under a rule."""

from collections.abc import Callable
from math import inf
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from convlens.workers.rectifiers.calls import Pool, Rectifier


def rectified(found: Rectifier, guided: bool, run: Callable[[], Tensor]) -> Tensor:
    """What the call of a rectifier gives by `run`, in place too, with the gradient of a rule.

    What is positive of the gradient passes: `guided` only where the rectifier has a slope, else
    wherever it is.
    """
    return cast(Tensor, _Rectified.apply(found.input, found.cap, guided, run))


def redirected(found: Rectifier, run: Callable[[], Tensor]) -> Tensor:
    """What the call of a rectifier gives, with a gradient where the plain one of a row is zero.

    Of a row [i] that lets nothing through, all passes but what would push a negative input lower,
    or one above the cap higher, if what the gradient is of is made large. Olah et al. 2017,
    doi:10.23915/distill.00007, as lucid has it.
    """
    return cast(Tensor, _Redirected.apply(found.input, found.cap, run))


def unpooled_by_maximum(pool: Pool) -> Tensor:
    """The maxima of a pooling; what is the maximum of several windows gets their largest gradient.

    MaxUnpool2d keeps the one that was written last.
    """
    return cast(Tensor, _Pooled.apply(pool.input, pool.run))


class _Rectified(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, cap: float, guided: bool, run: Callable[[], Tensor]
    ) -> Tensor:
        output = run()
        if output is input:
            ctx.mark_dirty(input)
        ctx.cap = cap
        if guided:
            ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = grad_outputs
        if not ctx.saved_tensors:
            return gradient.clamp(min=0), None, None, None
        [output] = ctx.saved_tensors
        # torch's own way back through a rectifier: one look at both tensors, and no mask.
        positive = torch.ops.aten.threshold_backward(gradient, output, 0).clamp_(min=0)
        if ctx.cap != inf:
            positive.masked_fill_(output >= ctx.cap, 0)
        return positive, None, None, None


class _Redirected(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, cap: float, run: Callable[[], Tensor]) -> Tensor:
        # Before it is run, which may write to it.
        place = torch.full_like(input, _FLAT, dtype=torch.int8)
        place.masked_fill_(input < 0, _BELOW).masked_fill_(input > cap, _ABOVE)
        output = run()
        if output is input:
            ctx.mark_dirty(input)
        ctx.save_for_backward(place.masked_fill_((output > 0) & (output < cap), _SLOPED))
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = grad_outputs
        [place] = ctx.saved_tensors
        plain = gradient.masked_fill(place != _SLOPED, 0)
        outward = ((place == _BELOW) & (gradient < 0)) | ((place == _ABOVE) & (gradient > 0))
        inner = tuple(range(1, plain.dim()))
        blocked = (plain == 0).all(dim=inner, keepdim=True) if inner else plain == 0
        return torch.where(blocked, gradient.masked_fill(outward, 0), plain), None, None


# Where an input is: below 0, where the rectifier has a slope, above its cap, or on an edge.
_BELOW, _SLOPED, _ABOVE, _FLAT = range(4)


class _Pooled(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, run: Callable[[], tuple[Tensor, Tensor]]) -> Tensor:
        maxima, switches = run()
        ctx.save_for_backward(switches)
        ctx.shape = input.shape
        return maxima

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = grad_outputs
        [switches] = ctx.saved_tensors
        maps = torch.zeros(ctx.shape, dtype=gradient.dtype, device=gradient.device).flatten(-2)
        maps.scatter_reduce_(
            -1, switches.flatten(-2), gradient.flatten(-2), "amax", include_self=False
        )
        return maps.view(ctx.shape), None

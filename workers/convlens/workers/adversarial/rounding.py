"""The 8-bit picture that is nearest to an adversarial one, within the budget."""

import torch
from torch import Tensor

from convlens.workers.attacks.budget import Budget, Linf

# In steps of 1/255: values of 8 bits lie this near to what float32 makes of them.
SLACK = 1e-4


def rounded(pixels: Tensor, budget: Budget | None) -> Tensor | None:
    """The nearest 8-bit picture to pixels in [0, 1], uint8 and of the same shape.

    None where no 8-bit picture but the original is within the budget: it is below 1/255, or the
    original has no 8-bit values itself.
    """
    wanted = pixels.double() * 255
    if budget is None:
        return wanted.round().to(torch.uint8)
    if budget.epsilon < (1 - SLACK) / 255:
        return None
    exact = budget.x.double() * 255
    if isinstance(budget, Linf):
        found = _within_reach(wanted.round(), exact, budget.epsilon * 255)
    else:
        found = _within_length(wanted, exact, budget.epsilon * 255)
    return None if found is None else found.to(torch.uint8)


def floats(picture: Tensor) -> Tensor:
    """An 8-bit picture as the network gets it, when it is sent back."""
    return picture.to(torch.float32) / 255


def _within_reach(steps: Tensor, exact: Tensor, reach: float) -> Tensor | None:
    least, most = (exact - reach - SLACK).ceil(), (exact + reach + SLACK).floor()
    found = torch.minimum(torch.maximum(steps, least), most).clamp(0, 255)
    return found if bool((least <= most).all()) else None


def _within_length(wanted: Tensor, exact: Tensor, length: float) -> Tensor | None:
    """Where rounding made the change too long, those values give way that cost least."""
    steps = wanted.round()
    nearer = torch.where(steps > exact, steps - 1, steps + 1)
    before, after = (steps - exact).square(), (nearer - exact).square()
    gain = (before - after).clamp_min(0).flatten()
    excess = float(before.sum()) - (length + SLACK) ** 2
    if excess <= 0:
        return steps
    cost = (nearer - wanted).square() - (steps - wanted).square()
    order = (gain / cost.flatten().clamp_min(SLACK)).argsort(descending=True, stable=True)
    saved = gain[order].cumsum(0)
    if float(saved[-1]) < excess:
        return None
    chosen = order[: int(torch.searchsorted(saved, excess)) + 1]
    found = steps.flatten()
    found[chosen] = nearer.flatten()[chosen]
    return found.view_as(steps)

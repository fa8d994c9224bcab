"""Adam, and what it remembers of earlier steps: Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""

import torch
from torch import Tensor
from torch.optim.adam import adam

from convlens.workers.synthesizers.memory import Memory, broken


class Adam:
    """Moves a tensor down, in place, from where these moments are.

    The bits are those of torch.optim.Adam, whose steps load torch's compiler: seconds in which the
    runner would compute for nobody.
    """

    def __init__(self, place: Tensor, rate: float, moments: dict[str, Tensor]) -> None:
        self.moments = moments
        self._place, self._rate = place, rate

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """One step."""
        adam(
            [self._place],
            [gradient],
            [self.moments["exp_avg"]],
            [self.moments["exp_avg_sq"]],
            [],
            [self.moments["step"]],
            has_complex=self._place.is_complex(),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self._rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def moments(parameters: Tensor, step: int, memory: Memory | None) -> dict[str, Tensor]:
    """Adam's moments as torch keeps them, of before the first step or of an earlier call."""
    blank = torch.zeros_like(parameters, requires_grad=False)
    mean = memory.take("mean", blank) if memory else blank
    square = memory.take("square", blank, 0) if memory else blank.clone()
    # No gradients have such means (Cauchy and Schwarz), and steps along them would be endless.
    if bool((mean.abs() > _MOST_MEAN * square.sqrt() + _TINY).any()):
        raise broken()
    return {"step": torch.tensor(float(step)), "exp_avg": mean, "exp_avg_sq": square}


_MOST_MEAN, _TINY = 7.5, 1e-15

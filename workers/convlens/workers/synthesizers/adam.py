"""What Adam remembers of earlier steps: Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""

import torch
from torch import Tensor

from convlens.workers.synthesizers.memory import Memory, broken


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

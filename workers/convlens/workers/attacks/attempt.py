"""What an attack is given, and what it comes back with."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from convlens.workers.attacks.aim import Aim
from convlens.workers.body import Body
from convlens.workers.runner import Pass, Steps

# The 8-bit picture nearest to pixels [channels, height, width], as floats; None where none is
# allowed.
Rounding = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A picture x [channels, height, width] that is to be answered otherwise.

    Its values are bounded by 0 and 1 unless it is `unbounded`. With `stop_at_success`, an attack
    within a budget ends at its first success. With `rounding`, only what succeeds after it counts,
    in `rounded_body` where that is another one than what is attacked.
    Another aim may be `pursued` on the way to it.
    """

    x: Tensor
    aim: Aim
    seed: int
    stop_at_success: bool = True
    unbounded: bool = False
    rounding: Rounding | None = None
    rounded_body: Body | None = None
    pursued: Aim | None = None

    @property
    def way(self) -> Aim:
        """Whose loss is driven up: the aim itself, unless another one is `pursued`."""
        return self.pursued or self.aim

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that a picture may have."""
        return (float("-inf"), float("inf")) if self.unbounded else (0.0, 1.0)

    def accepts(self, pixels: Tensor, scores: Tensor) -> Steps[bool]:
        """Whether pixels [channels, height, width] with the scores [classes] are a success."""
        if not bool(self.aim.reached(scores[None])[0]):
            return False
        if self.rounding is None:
            return True
        rounded = self.rounding(pixels)
        if rounded is None:
            return False
        answer = yield Pass(rounded[None], body=self.rounded_body)
        return bool(self.aim.reached(answer.scores)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """The best that an attack found, [channels, height, width], after `steps` steps.

    `success` is what the attack believes. One that `is_improving` had not come to rest when its
    steps were used up. `by` is the title of the attack that found it, where it is one of several.
    `flags` are the contract's reasons not to take failure for robustness.
    """

    pixels: Tensor
    steps: int
    success: bool
    is_improving: bool = False
    by: str = ""
    flags: frozenset[int] = frozenset()


class Best:
    """Keeps the best of what an attack offers: a success rather than none, then the worthiest."""

    def __init__(self, x: Tensor) -> None:
        self.pixels = x
        self.success = False
        self.steps = 0
        self._worth = float("-inf")
        self._found_at = 0

    def offer(self, pixels: Tensor, success: bool, worth: float) -> bool:
        """Takes pixels [channels, height, width] of some worth, and says whether they are better.

        Of several that are worth the same, the first is kept.
        """
        # Said so that what is not a number is not better.
        if not (success, worth) > (self.success, self._worth):
            return False
        self.pixels, self.success, self._worth = pixels, success, worth
        self._found_at = self.steps
        return True

    def attempt(self) -> Attempt:
        """What the attack returns where it ends now.

        It is improving where the best came in the last tenth of its steps.
        """
        is_improving = self.steps > 1 and self._found_at > 0.9 * self.steps
        return Attempt(self.pixels, self.steps, self.success, is_improving and not self.success)

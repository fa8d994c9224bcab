"""What a token may use in a time: so much a second, and some at once."""

from collections.abc import Callable


class Bucket:
    """Fills with `rate` a second up to `burst`, from which is taken; it begins full."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._level = burst
        self._filled = clock()
        self._rate, self._burst = rate, burst

    def change(self, rate: float, burst: float) -> None:
        """Goes on with other limits; what was taken stays taken."""
        self._fill()
        self._level = min(self._level + max(burst - self._burst, 0), burst)
        self._rate, self._burst = rate, burst

    def take(self, amount: float) -> float:
        """0 where it was taken; else the seconds until it can be, and nothing was taken.

        More than the burst is taken from a full bucket, which then owes it: no size is out of reach
        for ever, and the rate holds in the long run.
        """
        self._fill()
        missing = min(amount, self._burst) - self._level
        # But for what rounding leaves when the told time has passed.
        if missing > 1e-6:
            return missing / self._rate
        self._level -= amount
        return 0.0

    def borrow(self, amount: float) -> float:
        """Takes it in any case; the seconds to wait until it is paid back."""
        self._fill()
        self._level -= amount
        return max(-self._level, 0.0) / self._rate

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._level + (now - self._filled) * self._rate, self._burst)
        self._filled = now

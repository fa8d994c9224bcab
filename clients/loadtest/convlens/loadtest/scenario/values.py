"""Times, rates and names as a scenario has them."""

import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator, StringConstraints

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h)")
OF_PEAK = re.compile(r"(?:(\d+(?:\.\d+)?)\s*\*\s*)?peak")
MOST_A_SECOND = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second, or so many times the peak that steps have found."""

    number: float
    of_peak: bool = False

    def per_second(self, peak: float | None) -> float:
        """Requests a second; `peak` is what steps before have found."""
        if not self.of_peak:
            return self.number
        assert peak is not None, "the scenario was checked"
        return self.number * peak

    def __str__(self) -> str:
        return f"{self.number:g} * peak" if self.of_peak else f"{self.number:g}"


def seconds(value: object) -> object:
    """Seconds of a text with a unit, as "250ms", "2s", "1.5m" or "1h"; a number is seconds."""
    if not isinstance(value, str):
        return value
    match = DURATION.fullmatch(value.strip())
    if not match:
        raise ValueError(f"{value!r} is no time; write it as '250ms', '2s', '5m' or '1h'")
    return float(match[1]) * UNITS[match[2]]


def rate(value: object) -> Rate:
    """A number of requests a second, or how many times the peak."""
    if isinstance(value, Rate):
        return value
    match = OF_PEAK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        number, of_peak = float(match[1] or 1), True
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number, of_peak = float(value), False
    else:
        raise ValueError(
            f"{value!r} is no rate; write requests a second, as 50, or a part of the peak that "
            "steps have found, as '0.5 * peak'"
        )
    if not 0 < number <= MOST_A_SECOND or math.isnan(number):
        raise ValueError(f"{value!r} is out of range; it must be above 0, and at most 1e6")
    return Rate(number, of_peak)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,40}$")]
Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, le=7 * 86_400)]
Pause = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=3600)]
ARate = Annotated[Rate, PlainValidator(rate)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]
Weights = dict[Name, Weight]

"""How times, rates and shares are written."""

import math


def seconds(value: float | None) -> str:
    """Three digits of a time, in the unit that suits it: "850 µs", "12.3 ms", "1.25 s", "3 min"."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if value < limit * 0.9995:
            return f"{digits(value * factor)} {unit}"
    return f"{digits(value / 60)} min"


def rate(value: float | None) -> str:
    """So many a second: "23.3/s"."""
    return "–" if value is None else f"{digits(value)}/s"


def share(value: float | None) -> str:
    """A part of 1 in percent; "100 %" is all, and "0 %" is nothing."""
    if value is None:
        return "–"
    percent = value * 100
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{percent:.2f}".rstrip("0").rstrip(".") + " %"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def digits(value: float) -> str:
    """Three digits, and all of those before the point."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    places = max(0, 2 - size)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

"""How answers that may be partial keep their deadline."""


def margin(left: float) -> float:
    """Seconds before a deadline at which an answer is put together, when so many are left."""
    return max(min(0.5, 0.1 * left), min(0.05, 0.5 * left))

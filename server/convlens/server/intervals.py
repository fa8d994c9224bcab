"""Confidence intervals."""

import math


def wilson(correct: int, images: int, normal: float) -> tuple[float, float]:
    """The confidence interval of a share; Wilson 1927, doi:10.1080/01621459.1927.10502953.

    `normal` is the quantile of the normal distribution for its level.
    """
    share, square = correct / images, normal**2
    middle = share + square / (2 * images)
    half = normal * math.sqrt(share * (1 - share) / images + square / (4 * images**2))
    scale = 1 + square / images
    # Rounding must not leave the share itself outside.
    low, high = (middle - half) / scale, (middle + half) / scale
    return max(0.0, min(share, low)), min(1.0, max(share, high))


def mean(total: float, squared: float, images: int, normal: float) -> tuple[float, float, float]:
    """A mean of numbers in [0, 1], and its confidence interval by the normal distribution.

    One number says nothing of how they vary: then the interval is [0, 1].
    """
    middle = total / images
    if images == 1:
        return middle, 0.0, 1.0
    variance = max(0.0, squared - total * middle) / (images - 1)
    half = normal * math.sqrt(variance / images)
    return middle, max(0.0, middle - half), min(1.0, middle + half)

"""What pictures look like, in a few bins."""

from typing import cast

from torch import Tensor


def looks_of(pictures: Tensor, bins: int) -> list[int]:
    """The look of each picture [n, channels, height, width], which is in 8 bits.

    It is the bin of the mean value, and that of the mean difference of neighbours, which is split
    more finely where it is small; as one number below the square of `bins`.
    """
    if bins == 1:
        return [0] * len(pictures)
    # Sums of whole numbers do not depend on their order, which is another one on each device.
    values = (pictures * 255).round().long()
    sums = values.sum((1, 2, 3)), _differences(values, -1), _differences(values, -2)
    most = 255 * values[0].numel()
    brightness, across, down = (cast("list[int]", each.tolist()) for each in sums)
    return [
        _bin(bright / most, bins) * bins + _bin(((right + below) / most / _MUCH) ** 0.5, bins)
        for bright, right, below in zip(brightness, across, down, strict=True)
    ]


def _differences(values: Tensor, axis: int) -> Tensor:
    return values.diff(dim=axis).abs().sum((1, 2, 3))


def _bin(share: float, bins: int) -> int:
    return min(int(share * bins), bins - 1)


# Differences to both neighbours together that are held to be as many as any.
_MUCH = 0.2

"""How the channels of a pixel become one value."""

from torch import Tensor

from convlens.v1 import explanation_methods_pb2 as methods


def reduced(values: Tensor, reduction: int) -> Tensor:
    """A map [..., height, width] of values [..., channels, height, width].

    Without a reduction it is [..., height, width, channels], as pictures are.
    """
    if reduction == methods.CHANNEL_REDUCTION_MAX_ABS:
        return values.abs().amax(dim=-3)
    if reduction == methods.CHANNEL_REDUCTION_SUM_ABS:
        return values.abs().sum(dim=-3)
    if reduction == methods.CHANNEL_REDUCTION_SUM_SIGNED:
        return values.sum(dim=-3)
    if reduction == methods.CHANNEL_REDUCTION_NONE:
        return values.movedim(-3, -1)
    raise ValueError(f"no reduction has the number {reduction}")


def is_signed(reduction: int) -> bool:
    """Whether a map that was reduced so has signs."""
    return reduction in (
        methods.CHANNEL_REDUCTION_SUM_SIGNED,
        methods.CHANNEL_REDUCTION_NONE,
    )

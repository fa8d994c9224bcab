"""What nodes of pattern-producing networks do with the sum of what they read."""

from torch import Tensor

from convlens.workers.synthesizers.cppn import Activation


def activate(activation: Activation, sums: Tensor) -> None:
    """Makes values of sums, in place."""
    match activation:
        case Activation.SINE:
            sums.sin_()
        case Activation.SIGMOID:
            sums.sigmoid_()
        case Activation.GAUSSIAN:
            sums.square_().neg_().exp_()
        case Activation.LINEAR:
            # Rows of linear nodes would grow without end.
            sums.clamp_(-_MOST_VALUE, _MOST_VALUE)


_MOST_VALUE = 10.0

"""What keeps pictures natural: numbers that are small for natural ones."""

from torch import Tensor
from torch.nn.functional import pad


def squared_distance(pixels: Tensor, mean: Tensor) -> Tensor:
    """The squared Euclidean distance of a picture [channels, height, width] from a colour.

    Simonyan et al. 2013, arXiv:1312.6034, section 2: the L2 norm, of pixels less their mean.
    """
    return (pixels - mean).square().sum()


def total_variation(pixels: Tensor, beta: float) -> Tensor:
    """The sum of (dx^2 + dy^2)^(beta / 2) over pixels [channels, height, width].

    Differences are those to the next pixel, and 0 where there is none. Below 2, where it has no
    derivative at flat places, that is 0 there. Mahendran & Vedaldi 2014, arXiv:1412.0035,
    section 2.
    """
    across = pad(pixels.diff(dim=-1), (0, 1))
    down = pad(pixels.diff(dim=-2), (0, 0, 0, 1))
    squares = across.square() + down.square()
    flat = squares == 0
    return squares.masked_fill(flat, 1).pow(beta / 2).masked_fill(flat, 0).sum()


def alpha_norm(x: Tensor, alpha: float) -> Tensor:
    """The sum of |x|^alpha over pixels [channels, height, width], less the mean colour.

    A large power keeps each within bounds. Mahendran & Vedaldi 2014, arXiv:1412.0035, section 3.
    """
    return x.abs().pow(alpha).sum()

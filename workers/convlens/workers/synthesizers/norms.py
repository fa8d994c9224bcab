"""How large a picture is."""

from torch import Tensor


def alpha_norm(x: Tensor, alpha: float) -> Tensor:
    """The sum of |x|^alpha [] over pixels [channels, height, width] around the mean colour.

    Mahendran & Vedaldi 2014, arXiv:1412.0035, section 3.
    """
    return x.abs().pow(alpha).sum()

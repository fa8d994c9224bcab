"""Networks made fully convolutional, for pictures larger than their input."""

from convlens.workers.dense.network import Dense, FullyConvolutional, fully_convolutional
from convlens.workers.dense.picture import on_original, prepare_larger

__all__ = ["Dense", "FullyConvolutional", "fully_convolutional", "on_original", "prepare_larger"]

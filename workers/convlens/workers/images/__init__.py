"""Reads pictures as they were sent, and prepares them for a network."""

from convlens.workers.images.geometry import Prepared, prepare, prepare_as
from convlens.workers.images.limits import Limits
from convlens.workers.images.pixels import Pixels
from convlens.workers.images.reading import read_image
from convlens.workers.images.vectors import read_vector

__all__ = ["Limits", "Pixels", "Prepared", "prepare", "prepare_as", "read_image", "read_vector"]

"""Finds the object that a map points at, and compares it with the true one."""

from convlens.workers.localization.checks import check_localization, check_true_region
from convlens.workers.localization.localize import Finding, localize
from convlens.workers.localization.regions import Region, overlap, points_at
from convlens.workers.localization.segmentation import opencv_version
from convlens.workers.localization.strength import strength

__all__ = [
    "Finding",
    "Region",
    "check_localization",
    "check_true_region",
    "localize",
    "opencv_version",
    "overlap",
    "points_at",
    "strength",
]

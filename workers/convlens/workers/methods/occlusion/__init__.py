"""Occlusion: how the answer falls when a window of the picture is covered."""

from convlens.workers.methods.occlusion.grid import Grid
from convlens.workers.methods.occlusion.method import occlusion
from convlens.workers.methods.occlusion.observed import OcclusionResult

__all__ = ["Grid", "OcclusionResult", "occlusion"]

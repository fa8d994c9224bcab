"""Draws maps, activations and filters as PNGs."""

from convlens.workers.rendering.checks import check_rendering
from convlens.workers.rendering.drawing import draw
from convlens.workers.rendering.ink import limit_of
from convlens.workers.rendering.tiles import draw_filter, draw_plane

__all__ = ["check_rendering", "draw", "draw_filter", "draw_plane", "limit_of"]

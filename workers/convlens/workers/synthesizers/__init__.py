"""Ways to make pictures for a network; each file is one, and reads like its paper."""

from convlens.workers.synthesizers.growth import Growth, Sketch
from convlens.workers.synthesizers.memory import Memory
from convlens.workers.synthesizers.task import Task

__all__ = ["Growth", "Memory", "Sketch", "Task"]

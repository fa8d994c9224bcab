"""Attacks: each one function in one file, a generator that yields passes."""

from convlens.workers.attacks.aim import Aim
from convlens.workers.attacks.attempt import Attempt, Best, Task

__all__ = ["Aim", "Attempt", "Best", "Task"]

"""How rectifiers let a gradient through: as it is, or by the rule of a method."""

from convlens.workers.rectifiers.rules import Rule, applied

__all__ = ["Rule", "applied"]

"""The Attack jobs: pictures in, verdicts out."""

from convlens.workers.adversarial.job import AttackJob
from convlens.workers.adversarial.streaming import AttackStreamJob

__all__ = ["AttackJob", "AttackStreamJob"]

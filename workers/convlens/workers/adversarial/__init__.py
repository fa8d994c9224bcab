"""The jobs of attacks: pictures in, verdicts or measurements out."""

from convlens.workers.adversarial.job import AttackJob
from convlens.workers.adversarial.robustness import RobustnessJob
from convlens.workers.adversarial.streaming import AttackStreamJob

__all__ = ["AttackJob", "AttackStreamJob", "RobustnessJob"]

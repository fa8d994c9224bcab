"""Synthesize: the pictures that a network answers to, told of while they grow."""

from convlens.workers.synthesis.job import SynthesizeJob

__all__ = ["SynthesizeJob"]

"""Pools as models of NVIDIA Triton: the model, and the repository that serves it."""

"""Triton: the engine that sends jobs to it, and the start of the bundled one."""

"""What a run found: its figures, their limits, and how two runs compare."""

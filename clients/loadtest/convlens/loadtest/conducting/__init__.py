"""Conducts a run: starts the load processes, tells them what is due, and gathers what they saw."""

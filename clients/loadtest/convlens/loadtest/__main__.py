"""Lets `python -m convlens.loadtest` be the command."""

from convlens.loadtest.cli import main

main()

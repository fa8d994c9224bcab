"""Lets `python -m convlens.client.cli` be the command."""

from convlens.client.cli import main

main()

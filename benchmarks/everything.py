"""Every benchmark in turn."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

# Runs without click, and would take hours on a CPU.
DEVICE = "device"


def commands(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """What to run, by name; the figures of each go into a file of its own."""
    for name in names:
        yield name, ["benchmarks", name, "--json", str(folder / f"{name}.json")]
    if torch.cuda.is_available():
        yield DEVICE, ["benchmarks.device", "--json", str(folder / f"{DEVICE}.json")]


def run(
    folder: Path, names: Sequence[str], only: Sequence[str] = (), skip: Sequence[str] = ()
) -> list[str]:
    """Runs them and goes on where one fails; returns the names of those that did.

    Each is a process of its own, so that none finds the memory or the threads of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for name, command in commands(folder, names):
        if name in skip or (only and name not in only):
            continue
        print(f"--- {name}", flush=True)
        if subprocess.run([sys.executable, "-m", *command]).returncode:
            failed.append(name)
    return failed

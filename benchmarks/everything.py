"""Every benchmark in turn."""

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch

# Runs without click, and would take hours on a CPU.
DEVICE = "device"


def commands(folder: Path, names: Sequence[str]) -> dict[str, Sequence[str]]:
    """The module and arguments of each benchmark; its figures go into a file of its own."""
    found: dict[str, Sequence[str]] = {
        name: ("benchmarks", name, "--json", str(folder / f"{name}.json")) for name in names
    }
    if torch.cuda.is_available():
        found[DEVICE] = ("benchmarks.device", "--json", str(folder / f"{DEVICE}.json"))
    return found


def run(
    modules: Mapping[str, Sequence[str]],
    only: Collection[str] = (),
    skip: Collection[str] = (),
) -> list[str]:
    """Runs them and goes on where one fails; returns the names of those that did.

    Each is a process of its own, so that none finds the memory or the threads of another.
    """
    failed: list[str] = []
    for name, command in modules.items():
        if name in skip or (only and name not in only):
            continue
        print(f"--- {name}", flush=True)
        if subprocess.run([sys.executable, "-m", *command]).returncode:
            failed.append(name)
    return failed

"""Callers of everything at once, for a while: nothing grows."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from convlens.client import Client
from convlens.client.methods import (
    FGSM,
    PGD,
    ClassModel,
    GradCam,
    IntegratedGradients,
    Occlusion,
    Saliency,
)
from convlens.v1.target_pb2 import Target
from tests.conftest import server_process
from tests.faults.target import GIVING_BACK

CALLERS = 6
STAR = Target(label="star")
# What may be there more at the end, when all is quiet again: pools of threads fill up.
MORE = {"memory": 48 << 20, "files": 16, "threads": 8}


def state(process: psutil.Process) -> dict[str, int]:
    """What the server holds now."""
    return {
        "memory": process.memory_info().rss,
        "files": process.num_fds(),
        "threads": process.num_threads(),
    }


def calls(client: Client, pictures: list[Path]) -> Mapping[str, Callable[[Path], Any]]:
    """What a caller may ask for."""
    return {
        "classify": client.classify,
        "codes": lambda picture: client.extract_features(picture, "features.6"),
        "stream": lambda picture: list(client.classify_stream([picture, *pictures[:3]])),
        "explain": lambda picture: client.explain(picture, [Saliency(), GradCam()]),
        "integrate": lambda picture: client.explain(picture, IntegratedGradients(steps=4)),
        "occlude": lambda picture: client.explain(picture, Occlusion(window=32, stride=32)),
        "attack": lambda picture: client.attack(picture, FGSM(epsilon=4 / 255)),
        "pgd": lambda picture: client.attack(picture, PGD(steps=5)),
        "synthesize": lambda _: client.synthesize_to_end(ClassModel(target=STAR, steps=3)),
    }


def load(address: str, pictures: list[Path], over: threading.Event, seed: int) -> dict[str, int]:
    """One caller, until it is over; how often it was answered what."""
    chance, answered = random.Random(seed), dict[str, int]()
    while not over.is_set():
        # A connection now and then, as callers come and go.
        with Client(address, timeout=60) as client:
            ways = calls(client, pictures)
            for _ in range(20):
                name = chance.choice(list(ways))
                ways[name](chance.choice(pictures))
                answered[name] = answered.get(name, 0) + 1
                if over.is_set():
                    break
    return answered


def all_at_once(address: str, pictures: list[Path], seconds: float) -> dict[str, int]:
    """Every caller for a while, to the last answer; how often they were answered what."""
    over = threading.Event()
    with ThreadPoolExecutor(CALLERS) as executor:
        callers = [executor.submit(load, address, pictures, over, n) for n in range(CALLERS)]
        over.wait(seconds)
        over.set()
        answered = [caller.result() for caller in callers]
    names = sorted({name for each in answered for name in each})
    return {name: sum(each.get(name, 0) for each in answered) for name in names}


@pytest.mark.parametrize(
    ("warm", "seconds"), [(4.0, 12.0), pytest.param(120.0, 3600.0, marks=pytest.mark.slow)]
)
def test_everything_at_once_leaves_nothing(
    warm: float, seconds: float, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with server_process(**GIVING_BACK) as (server, address):
        process = psutil.Process(server.pid)
        all_at_once(address, pictures, warm)
        time.sleep(1)
        before = state(process)
        counts = all_at_once(address, pictures, seconds)
        time.sleep(1)
        after = state(process)
    grown = {name: after[name] - before[name] for name in before}
    with capsys.disabled():
        print(f"\nmixed load for {seconds:.0f} s: {counts}, grown by {grown}")
    assert len(counts) == 9 and min(counts.values()) > 0
    assert all(grown[name] <= most for name, most in MORE.items()), grown

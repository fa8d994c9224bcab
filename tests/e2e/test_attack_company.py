"""Attacks in company, on both engines: the same bits alone, together, in any order, on either."""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.v1 import adversarial_pb2 as pb
from convlens.v1 import attack_methods_pb2 as methods
from convlens.v1.adversarial_pb2_grpc import AdversarialServiceStub
from convlens.v1.target_pb2 import Target
from tests.e2e.test_attack import request

EPSILON = 8 / 255
# Some of every attack, with other parameters each time.
METHODS: Sequence[Callable[[random.Random], Any]] = (
    lambda r: methods.FGSM(epsilon=r.choice([0.01, 0.1])),
    lambda r: methods.PGD(epsilon=EPSILON, steps=r.randint(1, 5), restarts=r.randint(1, 2)),
    lambda r: methods.PGD(norm=methods.NORM_L2, epsilon_l2=3, steps=r.randint(2, 4)),
    lambda r: methods.APGD(epsilon=EPSILON, steps=r.randint(2, 6)),
    lambda r: methods.DeepFool(steps=r.randint(1, 4)),
    lambda r: methods.CarliniWagner(search_steps=2, steps=r.randint(2, 5), initial_c=10),
    lambda r: methods.LBFGS(search_steps=1, steps=r.randint(1, 2)),
    lambda r: methods.Square(epsilon=0.1, queries=r.randint(2, 12)),
    lambda r: methods.AutoAttack(epsilon=EPSILON, steps=2, queries=3, target_classes=2),
)
# The answers of each engine, without the receipt's time and place.
FOUND: dict[str, list[bytes]] = {}


@pytest.fixture(scope="module")
def attacking(channel: grpc.Channel) -> Any:
    return AdversarialServiceStub(channel)


def job(pictures: list[Path], seed: int) -> pb.AttackRequest:
    """A request of one attack for one or two images; every attack comes in turn."""
    chance = random.Random(seed)
    wanted = METHODS[seed % len(METHODS)](chance)
    images = chance.sample(pictures, chance.randint(1, 2))
    made = request(images, wanted, seed=seed, return_pixels=True)
    made.stop_at_success = chance.random() < 0.5
    made.until_rounded_succeeds = chance.random() < 0.3
    if chance.random() < 0.3:
        made.goal.target.CopyFrom(Target(rank=chance.randint(2, 9)))
    return made


def bits(response: pb.AttackResponse) -> bytes:
    """The verdicts; receipts name the threads of a worker, and are of no interest here."""
    assert not [result for result in response.results if result.HasField("error")]
    return pb.AttackResponse(results=response.results).SerializeToString(deterministic=True)


@pytest.mark.parametrize("count", [18, pytest.param(64, marks=pytest.mark.slow)])
def test_mixed_attacks_give_what_each_gives_alone_bit_for_bit(
    attacking: Any, pictures: list[Path], count: int
) -> None:
    jobs = [job(pictures, seed) for seed in range(count)]
    alone = [bits(attacking.Attack(each, timeout=60)) for each in jobs]
    together: list[bytes] = [b""] * count
    order = random.Random(0).sample(range(count), count)

    def ask(index: int) -> None:
        if index % 9 == 0:
            # Company that leaves in the middle of its work, and company whose time is over.
            leaving = request(pictures[:2], methods.Square(epsilon=1e-6, queries=500))
            call = attacking.Attack.future(leaving, timeout=0.3 if index % 2 else 60)
            threading.Timer(0.2, call.cancel).start()
        together[index] = bits(attacking.Attack(jobs[index], timeout=120))

    with ThreadPoolExecutor(count) as callers:
        list(callers.map(ask, order))
    for index, expected in enumerate(alone):
        assert together[index] == expected, f"job {index}"


def test_both_engines_find_the_same_bits(attacking: Any, server: Any, pictures: list[Path]) -> None:
    jobs = [job(pictures, seed) for seed in range(len(METHODS))]
    FOUND[server.engine_name] = [bits(attacking.Attack(each, timeout=60)) for each in jobs]
    for other in FOUND.values():
        assert other == FOUND[server.engine_name]


def test_an_image_is_attacked_as_if_it_were_alone(attacking: Any, pictures: list[Path]) -> None:
    for wanted in (methods.PGD(epsilon=EPSILON, steps=3), methods.Square(epsilon=0.1, queries=5)):
        both = attacking.Attack(request(pictures[:2], wanted, seed=5), timeout=60).results
        for position, picture in enumerate(pictures[:2]):
            [single] = attacking.Attack(request([picture], wanted, seed=5), timeout=60).results
            assert single.verdict.png == both[position].verdict.png

"""Explanations in company, on both engines: the same bits, shared passes, and no queue-jumping."""

import random
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import image_pb2, quality_pb2
from convlens.v1.explanation_pb2_grpc import ExplanationServiceStub
from convlens.v1.target_pb2 import Target
from tests.conftest import RunningServer
from tests.e2e.test_explain import request

LAYER = "features.10"


@pytest.fixture(scope="module")
def explaining(channel: grpc.Channel) -> Any:
    return ExplanationServiceStub(channel)


def any_of(chance: random.Random, enum: Any) -> Any:
    """One of the values of an enum, but for the one that means its default."""
    return chance.choice(enum.values()[1:])


# Some of every way to ask for passes: gradients, rules, layers, sweeps, other bodies, nothing.
METHODS: Sequence[Callable[[Any], Any]] = (
    lambda r: methods.Saliency(reduction=any_of(r, methods.ChannelReduction)),
    lambda r: methods.InputXGradient(),
    lambda r: methods.SmoothGrad(samples=r.randint(2, 12), form=any_of(r, methods.SmoothGradForm)),
    lambda r: methods.IntegratedGradients(
        steps=r.randint(1, 3), max_steps=9, baseline=image_pb2.FILL_NOISE
    ),
    lambda r: methods.GuidedBackprop(),
    lambda r: methods.Deconvnet(layer=LAYER, strongest=r.randint(1, 3)),
    lambda r: methods.Occlusion(
        window=24, stride=r.randint(13, 24), fill=any_of(r, image_pb2.Fill)
    ),
    lambda r: methods.GradCam(layer=r.choice(["", LAYER])),
    lambda r: methods.GuidedGradCam(),
    lambda r: methods.Activations(layer=LAYER, count=3),
    lambda r: methods.Filters(layer="features.0", count=4),
    lambda r: methods.DenseMap(shorter_side=r.choice([160, 192])),
)


def job(pictures: list[Path], seed: int) -> pb.ExplainRequest:
    """A request of one to three methods for one or two images; every method comes first in turn."""
    chance = random.Random(seed)
    others = chance.sample(METHODS, chance.randint(0, 2))
    wanted = [make(chance) for make in (METHODS[seed % len(METHODS)], *others)]
    targets = [Target(rank=chance.randint(1, 10)) for _ in range(chance.randint(0, 2))]
    images = chance.sample(pictures, chance.randint(1, 2))
    made = request(images, *wanted, targets=targets, seed=seed)
    if seed % 16 == 0:
        measure = quality_pb2.MaxSensitivity(samples=2)
        made.measures.append(quality_pb2.QualityMeasure(max_sensitivity=measure))
    return made


@pytest.mark.parametrize("count", [24, pytest.param(64, marks=pytest.mark.slow)])
def test_mixed_jobs_give_what_each_gives_alone_bit_for_bit(
    explaining: Any, pictures: list[Path], server: RunningServer, count: int
) -> None:
    jobs = [job(pictures, seed) for seed in range(count)]
    alone = [explaining.Explain(each, timeout=60) for each in jobs]
    assert not [found for each in alone for found in errors(each)]
    before = passes(server)
    together: list[Any] = [None] * count
    order = random.Random(0).sample(range(count), count)

    def ask(index: int) -> None:
        if index % 9 == 0:
            # Company that leaves in the middle of its work, and company whose time is over.
            leaving = request(pictures[:2], methods.SmoothGrad(samples=500))
            call = explaining.Explain.future(leaving, timeout=0.3 if index % 2 else 60)
            threading.Timer(0.2, call.cancel).start()
        together[index] = explaining.Explain(jobs[index], timeout=120)

    with ThreadPoolExecutor(count) as callers:
        list(callers.map(ask, order))
    for index, expected in enumerate(alone):
        assert together[index] == expected, f"job {index}"
    asked, computed = (now - then for now, then in zip(passes(server), before, strict=True))
    # On a CPU only what one job asks for at a time is merged: callers do not share rows there.
    assert asked > computed > 0


def errors(response: pb.ExplainResponse) -> list[Any]:
    failed = [each for each in response.results if each.HasField("error")]
    attributions = [each for r in response.results for each in r.explanation.attributions]
    return failed + [each for each in attributions if each.HasField("error")]


def passes(server: RunningServer) -> tuple[float, float]:
    """Parts of passes asked for so far, and the micro-batches that computed them."""
    lines = urllib.request.urlopen(server.metrics_url).read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("convlens_analysis_passes_total", "convlens_analysis_micro_batches_total")
    asked, computed = (float(found[name]) for name in names)
    return asked, computed


def test_a_short_job_does_not_wait_for_a_long_one(explaining: Any, pictures: list[Path]) -> None:
    short = request(pictures[:1], methods.Saliency())
    quiet = min(seconds(explaining, short) for _ in range(3))
    long = request(pictures[:2], methods.SmoothGrad(samples=1000))
    busy = explaining.Explain.future(long, timeout=120)
    time.sleep(0.2)
    beside = [seconds(explaining, short) for _ in range(3)]
    assert not busy.done()
    busy.cancel()
    # Two passes, each behind a micro-batch of the other; 2000 passes would take many times that.
    assert min(beside) < quiet + 1


def seconds(explaining: Any, asked: pb.ExplainRequest) -> float:
    started = time.monotonic()
    explaining.Explain(asked, timeout=60)
    return time.monotonic() - started

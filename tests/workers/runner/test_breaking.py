"""What breaks is alone with it."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from convlens.contract import ErrorReason, Failure
from convlens.internal.v1.job_pb2 import Reply
from convlens.workers.jobs import alone
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    Key,
    Pass,
    Runner,
    Steps,
    side_by_side,
)
from tests.workers.runner.jobs import (
    PLACES,
    Asked,
    Wrong,
    broken_at,
    held,
    passes,
    picture,
    running,
    saliency,
    scored,
)


@pytest.mark.parametrize("share", [False, True], ids=["alone", "shared"])
@pytest.mark.parametrize("place", PLACES)
def test_an_item_that_breaks_is_alone_with_it(
    network: ServedNetwork, place: str, share: bool
) -> None:
    with running(network, share) as runner:
        quiet = Asked(saliency(picture(1)), saliency(picture(2)))
        runner.submit(quiet)
        assert quiet.wait() == "done"
        mixed = Asked(saliency(picture(1)), broken_at(place), saliency(picture(2)))
        other = Asked(saliency(picture(1)), saliency(picture(2)))
        with held(runner):
            runner.submit(mixed)
            runner.submit(other)
        reason = "NOT_IMPLEMENTED" if place == "failure" else "INTERNAL"
        assert mixed.reasons() == ["well", reason, "well"]
        assert other.reasons() == ["well", "well"]
    for index in range(2):
        assert torch.equal(other.outcomes[index], quiet.outcomes[index])
    # Of the same job, an item has the shape of what its job asks for.
    if share:
        assert torch.equal(mixed.outcomes[0], quiet.outcomes[0])


def test_a_job_that_breaks_is_alone_with_it(runner: Runner) -> None:
    class Broken(Asked):
        def begin(self) -> Mapping[Key, Steps[Any]]:
            raise RuntimeError("planted: no beginning")

    class Mute(Asked):
        def response(self) -> bytes:
            raise RuntimeError("planted: no response")

    class Deaf(Asked):
        def accept(self, key: Key, outcome: Any) -> None:
            raise RuntimeError("planted: not accepted")

    jobs = [kind(scored(picture(0))) for kind in (Broken, Mute, Deaf, Asked)]
    with held(runner):
        for job in jobs:
            runner.submit(job)
    assert [job.wait() for job in jobs] == ["INTERNAL", "INTERNAL", "INTERNAL", "done"]
    runner.close()
    assert runner.is_idle()


def test_a_job_without_items_is_answered(runner: Runner) -> None:
    job = Asked()
    runner.submit(job)
    assert job.wait() == "done"


def test_an_answer_that_cannot_be_sent_does_not_end_the_runner(runner: Runner) -> None:
    def reply(_: Reply) -> None:
        raise RuntimeError("planted: the caller's connection broke")

    runner.submit(Asked(scored(picture(0)), reply=reply))
    runner.submit(Asked(broken_at("start"), reply=reply))
    runner.submit(Asked(scored(picture(0)), reply=reply, seconds=-1))
    well = Asked(scored(picture(0)))
    runner.submit(well)
    assert well.wait() == "done"
    runner.wait_for_room()


def test_a_method_that_cannot_be_closed_does_not_end_the_runner(runner: Runner) -> None:
    def clinging() -> Steps[None]:
        try:
            yield Pass(Wrong())
        finally:
            raise RuntimeError("planted: does not close")

    job, well = Asked(clinging, scored(picture(0))), Asked(scored(picture(0)))
    with held(runner):
        runner.submit(job)
        runner.submit(well)
    assert job.wait() == "INTERNAL"
    assert well.wait() == "done"


def test_alone_fails_only_a_ticket_that_has_no_answer() -> None:
    asked = Asked()
    with alone(asked.ticket):
        asked.ticket.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
        raise RuntimeError("planted, after the answer")
    assert asked.wait() == "CANCELLED"


@pytest.mark.parametrize("place", PLACES)
def test_a_branch_that_breaks_is_alone_with_it(runner: Runner, place: str) -> None:
    def forked() -> Steps[Any]:
        return (yield from side_by_side([saliency(picture(1))(), broken_at(place)()]))

    job = Asked(forked, saliency(picture(1)))
    runner.submit(job)
    assert job.reasons() == ["well", "well"]
    well, broken = job.outcomes[0]
    assert isinstance(broken, Failure)
    assert torch.equal(well, job.outcomes[1])


def test_a_job_is_prepared_before_it_begins(network: ServedNetwork) -> None:
    class Prepared(Asked):
        def prepare(self) -> None:
            self.ready = threading.current_thread().name
            if self.ticket.job.request_id == "bad":
                raise Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc="x")

        def begin(self) -> Mapping[Key, Steps[Any]]:
            assert self.ready.startswith("preparing")
            return super().begin()

    good, bad = Prepared(scored(picture(0))), Prepared(scored(picture(0)))
    bad.ticket.job.request_id = "bad"
    late = Prepared(scored(picture(0)), seconds=-1)
    with running(network) as runner:
        for job in (bad, late, good):
            runner.submit(job)
        reasons = [job.wait() for job in (bad, late, good)]
    assert reasons == ["NOT_IMPLEMENTED", "DEADLINE_EXCEEDED", "done"]
    assert runner.is_idle()


def test_a_job_that_cannot_be_prepared_is_not_begun(runner: Runner) -> None:
    begun: list[bool] = []

    class Broken(Asked):
        def prepare(self) -> None:
            raise Failure(ErrorReason.ERROR_REASON_IMAGE_EMPTY, formats="PNG")

        def begin(self) -> Mapping[Key, Steps[Any]]:
            begun.append(True)
            return super().begin()

    job = Broken(passes(1, [], ""))
    runner.submit(job)
    assert job.wait() == "IMAGE_EMPTY"
    well = Asked(passes(1, [], ""))
    runner.submit(well)
    assert well.wait() == "done"
    assert not begun
    assert runner.is_idle()

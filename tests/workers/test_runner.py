"""The runner: what is asked for together is computed together, and each job is on its own."""

import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from convlens.contract import ErrorReason, Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.workers.anatomy import INPUT
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.jobs import Ticket, alone
from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    AnalysisJob,
    Answer,
    Key,
    Outputs,
    Pass,
    Runner,
    Steps,
    side_by_side,
)
from convlens.workers.runner.memory import footprint

ROWS = 4


class Asked(AnalysisJob[Any]):
    """A job over some methods, whose outcomes can be waited for."""

    def __init__(
        self,
        *items: Callable[[], Steps[Any]],
        seconds: float = 60,
        cost: int = 1,
        reply: Callable[[Reply], None] | None = None,
        partial: bool = False,
    ) -> None:
        self.left = threading.Event()
        self.accepted: dict[Key, Any] = {}
        self._items = items
        self._answered = threading.Event()
        self._replies: list[Reply] = []
        now = time.monotonic()
        job = Job(request_id="test")
        send = reply or self._keep
        super().__init__(
            Ticket(job, now, now + seconds, self.left.is_set, send), cost, allow_partial=partial
        )

    def begin(self) -> Mapping[Key, Steps[Any]]:
        return {(index,): item() for index, item in enumerate(self._items)}

    def accept(self, key: Key, outcome: Any) -> None:
        assert key not in self.accepted
        self.accepted[key] = outcome

    @property
    def outcomes(self) -> dict[int, Any]:
        """What came of each item, branches aside."""
        return {key[0]: outcome for key, outcome in self.accepted.items() if len(key) == 1}

    def response(self) -> bytes:
        return b"done"

    def _keep(self, reply: Reply) -> None:
        self._replies.append(reply)
        self._answered.set()

    def wait(self) -> str:
        """ "done", or the reason of the failure; the only reply."""
        assert self._answered.wait(30)
        [reply] = self._replies
        failure = Failure.from_status(reply.error) if reply.HasField("error") else None
        return reason_name(failure.reason) if failure else reply.response.decode()

    def reasons(self) -> list[str]:
        """What came of each item: a reason, or "well"."""
        assert self.wait() == "done"
        return [
            reason_name(each.reason) if isinstance(each, Failure) else "well"
            for _, each in sorted(self.outcomes.items())
        ]


@pytest.fixture(scope="module")
def network() -> ServedNetwork:
    return load_network(NetworkEntry(name="shapes"), "cpu")


@pytest.fixture
def shapes(network: ServedNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every forward pass that is made."""
    seen: list[int] = []
    scores = network.scores

    def noted(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return scores(pixels)

    monkeypatch.setattr(network, "scores", noted)
    return seen


@contextmanager
def running(
    network: ServedNetwork, share: bool = False, budget: int = 10, memory: int | None = None
) -> Generator[Runner]:
    # One thread, so that jobs begin in the order in which they come.
    with ThreadPoolExecutor(1, thread_name_prefix="preparing") as executor:
        made = Runner(network, budget, ROWS, share, executor, memory)
        yield made
        made.close()


@pytest.fixture
def runner(network: ServedNetwork) -> Iterator[Runner]:
    with running(network) as made:
        yield made


def picture(seed: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 128, 128, generator=generator)


def best(outputs: Outputs) -> Tensor:
    return outputs.scores.amax(dim=1)


def scored(points: Tensor) -> Callable[[], Steps[Tensor]]:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(points)
        return answer.scores

    return steps


def saliency(points: Tensor) -> Callable[[], Steps[Tensor]]:
    def steps() -> Steps[Tensor]:
        answer = yield Pass(points, best)
        return answer.slope

    return steps


def ascent(points: Tensor, steps: int) -> Callable[[], Steps[Tensor]]:
    """Signs of gradients tell the last bit of a difference, and carry it on."""

    def method() -> Steps[Tensor]:
        x = points
        for _ in range(steps):
            answer = yield Pass(x, best)
            x = (x + 0.01 * answer.slope.sign()).clamp(0, 1)
        return x

    return method


def passes(count: int, done: list[str], name: str) -> Callable[[], Steps[None]]:
    def steps() -> Steps[None]:
        for _ in range(count):
            done.append(name)
            yield Pass(picture(0))

    return steps


@contextmanager
def held(runner: Runner) -> Generator[None]:
    """The runner is busy with something else while the block queues its jobs."""
    gate, busy = threading.Event(), threading.Event()

    def waiting() -> Steps[None]:
        busy.set()
        gate.wait(10)
        yield Pass(picture(0))

    job = Asked(waiting)
    runner.submit(job)
    assert busy.wait(10)
    yield
    gate.set()
    assert job.wait() == "done"


def test_answers_are_those_of_the_network(runner: Runner, network: ServedNetwork) -> None:
    points = picture(1, 6)
    job = Asked(scored(points), saliency(points))
    runner.submit(job)
    assert job.reasons() == ["well", "well"]
    x = points.clone().requires_grad_()
    scores = network.module(x)
    [gradient] = torch.autograd.grad(scores.amax(dim=1).sum(), x)
    assert torch.allclose(job.outcomes[0], scores, atol=1e-4)
    assert torch.allclose(job.outcomes[1], gradient, atol=1e-4 * float(gradient.abs().max()))


def test_captured_layers(runner: Runner, network: ServedNetwork) -> None:
    call = network.trace.call("features.3")
    points = picture(2, 5)

    def steps() -> Steps[Answer]:
        return (yield Pass(points, lambda out: out.captured[call].sum((1, 2, 3)), (call,)))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    answer: Answer = job.outcomes[0]
    x = points.clone().requires_grad_()
    module: Any = network.module
    inner = module.body.features[:4]((x - module.mean) / module.std)
    [gradient] = torch.autograd.grad(inner.sum(), x)
    assert answer.captured[call].shape == inner.shape
    assert torch.allclose(answer.captured[call], inner, atol=1e-4)
    assert torch.allclose(answer.worth, inner.sum((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(answer.slope, gradient, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize(
    ("share", "expected"), [(False, [4, 4, 1, 1, 1]), (True, [4, 4, 4])], ids=["alone", "shared"]
)
def test_the_shape_of_a_pass_is_the_jobs_own(
    network: ServedNetwork, shapes: list[int], share: bool, expected: list[int]
) -> None:
    with running(network, share) as runner:
        job = Asked(scored(picture(1, 5)), scored(picture(2, 6)))
        runner.submit(job)
        assert job.wait() == "done"
    assert shapes == expected
    assert [len(job.outcomes[index]) for index in range(2)] == [5, 6]


def test_what_jobs_leave_over_is_computed_together(
    network: ServedNetwork, shapes: list[int]
) -> None:
    with running(network, share=True) as runner:
        jobs = [Asked(saliency(picture(seed))) for seed in range(10)]
        others = [Asked(scored(picture(seed))) for seed in range(2)]
        with held(runner):
            for job in (*jobs, *others):
                runner.submit(job)
        assert {job.wait() for job in (*jobs, *others)} == {"done"}
    # One for what held it, three for ten gradients, one for two scores: kinds do not mix.
    assert shapes == [ROWS] * 5


# The analysis pool on a CPU, which does not share, is asked the same in tests/e2e.
@pytest.mark.parametrize(
    "share",
    [pytest.param(False, id="alone", marks=pytest.mark.slow), pytest.param(True, id="shared")],
)
def test_64_jobs_of_all_kinds_get_what_each_gets_alone_bit_for_bit(
    network: ServedNetwork, share: bool
) -> None:
    def job(seed: int) -> Asked:
        points = picture(seed, 1 + seed % 6)
        methods = [scored(points), saliency(points), ascent(points, 1 + seed % 3)]
        return Asked(*methods[seed % 3 :], *methods[: seed % 2])

    alone_: list[Asked] = []
    for seed in range(64):
        with running(network, share) as runner:
            runner.submit(alone := job(seed))
            assert alone.wait() == "done"
            alone_.append(alone)
    order = random.Random(0).sample(range(64), 64)
    with running(network, share, budget=10**6) as runner:
        together = {seed: job(seed) for seed in order}
        for seed in order:
            runner.submit(together[seed])
            if seed % 9 == 0:
                # Company that leaves amid its work.
                runner.submit(Asked(ascent(picture(seed), 50), seconds=0.05))
        assert {each.wait() for each in together.values()} == {"done"}
    for seed, alone in enumerate(alone_):
        assert alone.outcomes.keys() == together[seed].outcomes.keys()
        for index, value in alone.outcomes.items():
            assert torch.equal(value, together[seed].outcomes[index]), (seed, index)


def test_jobs_take_turns(runner: Runner) -> None:
    done: list[str] = []
    one, two = Asked(passes(3, done, "one")), Asked(passes(1, done, "two"))
    with held(runner):
        runner.submit(one)
        runner.submit(two)
    assert (one.wait(), two.wait()) == ("done", "done")
    # Both begin before either is computed; "two" is done before "one" goes on for long.
    assert done == ["one", "two", "one", "one"]


def test_points_are_made_when_they_are_due_and_parts_come_in_order(runner: Runner) -> None:
    made: list[tuple[int, int]] = []
    whole = picture(3, 10)
    parts: list[Tensor] = []

    class Lazy:
        def __len__(self) -> int:
            return 10

        def __getitem__(self, rows: slice, /) -> Tensor:
            made.append((rows.start, rows.stop))
            assert len(parts) == len(made) - 1, "no part is made before the one before is done"
            return whole[rows]

    def steps() -> Steps[Tensor]:
        last = yield Pass(Lazy(), best, each=lambda part: parts.append(part.scores))
        return last.scores

    lazy, plain = Asked(steps), Asked(scored(whole))
    runner.submit(lazy)
    runner.submit(plain)
    assert lazy.reasons() == plain.reasons() == ["well"]
    assert made == [(0, 4), (4, 8), (8, 9), (9, 10)]
    assert torch.allclose(torch.cat(parts), plain.outcomes[0], atol=1e-4)
    assert torch.equal(lazy.outcomes[0], parts[-1])


class Wrong:
    """Points that cannot be made."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, rows: slice, /) -> Tensor:
        raise RuntimeError("planted: no points")


def broken_at(place: str) -> Callable[[], Steps[None]]:
    def objective(outputs: Outputs) -> Tensor:
        raise RuntimeError("planted: no value")

    def each(_: Answer) -> None:
        raise RuntimeError("planted: not taken")

    def steps() -> Steps[None]:
        if place == "start":
            raise RuntimeError("planted: no start")
        if place == "failure":
            yield Pass(picture(0))
            raise Failure(ErrorReason.ERROR_REASON_NOT_IMPLEMENTED, rpc="x")
        if place == "points":
            yield Pass(Wrong(), best)
        elif place == "empty":
            yield Pass(picture(0)[:0])
        elif place == "shape":
            yield Pass(torch.zeros(1, 5, 7, 7), best)
        elif place == "part":
            yield Pass(picture(0), best, each=each)
        elif place == "nothing":
            yield None  # pyright: ignore[reportReturnType]
        else:
            yield Pass(picture(0), objective)
        raise RuntimeError("planted: after the pass")

    return steps


PLACES = ("start", "failure", "points", "empty", "shape", "part", "nothing", "objective")


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


def endless(done: list[int]) -> Callable[[], Steps[None]]:
    def steps() -> Steps[None]:
        while True:
            done.append(1)
            yield Pass(picture(0))

    return steps


def test_whoever_left_or_is_out_of_time_is_computed_no_more(runner: Runner) -> None:
    done: list[int] = []
    gone, late = Asked(endless(done)), Asked(endless(done), seconds=0.2)
    runner.submit(gone)
    runner.submit(late)
    assert late.wait() == "DEADLINE_EXCEEDED"
    gone.left.set()
    assert gone.wait() == "CANCELLED"
    count = len(done)
    well = Asked(passes(5, [], "well"))
    runner.submit(well)
    assert well.wait() == "done"
    assert len(done) == count


def test_there_is_room_again_when_a_job_has_ended(runner: Runner) -> None:
    big, small = Asked(endless([]), cost=11), Asked(scored(picture(0)))
    runner.submit(big)
    runner.submit(small)
    waiting = threading.Thread(target=runner.wait_for_room)
    waiting.start()
    assert small.wait() == "done"
    waiting.join(0.05)
    assert waiting.is_alive(), "12 passes are over the budget of 10"
    big.left.set()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.parametrize(("most", "well"), [(2, True), (1, True), (0, False)])
def test_where_memory_runs_out_rows_are_halved(
    network: ServedNetwork, monkeypatch: pytest.MonkeyPatch, most: int, well: bool
) -> None:
    scores, seen = network.scores, list[int]()

    def small(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        if len(pixels) > most:
            raise torch.OutOfMemoryError("planted")
        return scores(pixels)

    monkeypatch.setattr(network, "scores", small)
    with running(network, share=True) as runner:
        first, second = Asked(saliency(picture(1, 6))), Asked(saliency(picture(2, 4)))
        runner.submit(first)
        assert first.reasons() == (["well"] if well else ["INTERNAL"])
        begun = len(seen)
        runner.submit(second)
        assert second.reasons() == first.reasons()
    if well:
        assert len(first.outcomes[0]) == 6
        assert set(seen[begun:]) == {most}, "what did not fit once is not tried again"


def test_alone_fails_only_a_ticket_that_has_no_answer() -> None:
    asked = Asked()
    with alone(asked.ticket):
        asked.ticket.fail(Failure(ErrorReason.ERROR_REASON_CANCELLED))
        raise RuntimeError("planted, after the answer")
    assert asked.wait() == "CANCELLED"


def test_the_gradient_by_a_layer_is_that_of_what_it_gave(
    runner: Runner, network: ServedNetwork
) -> None:
    # A rectifier in place follows: what the layer gave is overwritten.
    call = network.trace.call("features.0")
    points = picture(2, 5)

    def steps() -> Steps[Answer]:
        return (yield Pass(points, best, (call,), by=(call, INPUT)))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    answer: Answer = job.outcomes[0]
    module: Any = network.module
    x = points.clone().requires_grad_()
    inner = module.body.features[0]((x - module.mean) / module.std)
    rest = module.body.features[1:](inner * 1)
    score = module.body.classifier(rest.flatten(1)).amax(dim=1).sum()
    by_layer, by_pixels = torch.autograd.grad(score, [inner, x])
    assert torch.allclose(answer.captured[call], inner, atol=1e-5)
    for found, expected in ((answer.gradients[call], by_layer), (answer.slope, by_pixels)):
        assert float(expected.abs().max()) > 0
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_pass_that_stops_computes_nothing_after_its_layer(
    runner: Runner, network: ServedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = network.module

    def never(_: Tensor) -> Tensor:
        raise AssertionError("the classifier was asked")

    monkeypatch.setattr(module.body.classifier[-1], "forward", never)
    call = network.trace.call("features.3")

    def total(outputs: Outputs) -> Tensor:
        return outputs.captured[call].sum((1, 2, 3))

    def steps() -> Steps[Answer]:
        return (yield Pass(picture(1, 5), total, (call,), stops=True))

    job = Asked(steps)
    runner.submit(job)
    assert job.reasons() == ["well"]
    assert job.outcomes[0].scores.shape == (5, 0)
    assert float(job.outcomes[0].slope.abs().max()) > 0


def test_branches_are_computed_side_by_side(network: ServedNetwork, shapes: list[int]) -> None:
    def forked() -> Steps[Any]:
        first = yield Pass(picture(0))
        rest = yield from side_by_side([scored(picture(n, n))() for n in (1, 2, 1)])
        nothing = yield from side_by_side([])
        return [first.scores, *rest, *nothing]

    with running(network, share=True) as runner:
        job = Asked(forked, forked)
        runner.submit(job)
        assert job.reasons() == ["well", "well"]
    # Each of the two asks for one point, and then for four.
    assert shapes == [ROWS, ROWS, ROWS]
    assert [len(scores) for scores in job.outcomes[1]] == [1, 1, 2, 1]
    assert torch.equal(job.outcomes[0][2], job.outcomes[1][2])


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


def counted(done: list[int], count: int) -> Callable[[], Steps[int]]:
    """Counts its passes, and says so at any time after the first."""

    def steps() -> Steps[int]:
        for _ in range(count):
            yield Pass(picture(0), so_far=lambda: len(done) or None)
            done.append(1)
        return count

    return steps


def test_what_there_is_at_the_deadline_is_the_answer(runner: Runner) -> None:
    done: list[int] = []

    def forked() -> Steps[Any]:
        return (yield from side_by_side([counted(done, 10**6)()]))

    job = Asked(counted(done, 10**6), forked, passes(10**6, [], ""), seconds=0.5, partial=True)
    runner.submit(job)
    assert job.reasons() == ["well", "well", "DEADLINE_EXCEEDED"]
    assert 0 < job.outcomes[0] <= len(done)
    assert 0 < job.outcomes[1][0] <= len(done)
    late = Asked(counted(done, 10**6), seconds=0.5)
    runner.submit(late)
    assert late.wait() == "DEADLINE_EXCEEDED"


def test_an_item_that_is_good_enough_ends(runner: Runner) -> None:
    class Content(Asked):
        def watch(self, working: Mapping[Key, Callable[[], Any]]) -> list[Key]:
            return [key for key, so_far in working.items() if (so_far() or 0) >= 3]

    done: list[int] = []
    job = Content(counted(done, 100), passes(5, [], ""))
    runner.submit(job)
    assert job.reasons() == ["well", "well"]
    assert job.outcomes == {0: 3, 1: None}
    assert len(done) == 3


def test_what_was_computed_for_a_job_is_counted(runner: Runner) -> None:
    job = Asked(scored(picture(0, 6)), saliency(picture(0, 3)))
    runner.submit(job)
    assert job.wait() == "done"
    assert (job.spent.forward_passes, job.spent.backward_passes) == (9, 3)
    # A micro-batch of four rows, and five of one row each.
    assert (job.stages.passes, round(job.stages.micro_batches, 6)) == (6, 6)


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


def test_a_micro_batch_has_the_rows_that_memory_holds(
    network: ServedNetwork, shapes: list[int]
) -> None:
    row = footprint(network, Pass(picture(0), best).kind)
    assert 2e6 < row < 2e7
    assert footprint(network, Pass(picture(0)).kind) < row
    assert shapes == [1], "a row with a gradient is computed to measure it"
    shapes.clear()
    with running(network, share=True, memory=3 * row) as runner:
        job = Asked(saliency(picture(0, 4)), scored(picture(0, 4)))
        runner.submit(job)
        assert job.reasons() == ["well", "well"]
    assert sorted(shapes) == [1, 2, 2, 4]

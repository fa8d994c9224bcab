"""What is asked for together is computed together, whoever is there."""

import gc
import random
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from convlens.workers.network import ServedNetwork
from convlens.workers.runner import (
    Pass,
    Runner,
    Steps,
)
from convlens.workers.runner.memory import footprint
from tests.workers.runner.jobs import (
    ROWS,
    Asked,
    ascent,
    best,
    endless,
    held,
    passes,
    picture,
    running,
    saliency,
    scored,
)


@pytest.mark.parametrize(
    ("share", "expected"), [(False, [4, 4, 3]), (True, [4, 4, 4])], ids=["alone", "shared"]
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
    assert (job.stages.rows, job.stages.padded_rows) == (11, sum(expected) - 11)


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
    everybody = (*jobs, *others)
    assert [job.stages.rows for job in everybody] == [1] * 12
    assert round(sum(job.stages.padded_rows for job in everybody), 6) == 4 * ROWS - 12


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
        assert first.reasons() == (["well"] if well else ["OUT_OF_MEMORY"])
        begun = len(seen)
        runner.submit(second)
        assert second.reasons() == first.reasons()
    if well:
        assert len(first.outcomes[0]) == 6
        assert set(seen[begun:]) == {most}, "what did not fit once is not tried again"


def test_what_is_computed_to_find_out_is_let_go(network: ServedNetwork) -> None:
    seen = list[weakref.ref[Tensor]]()

    def look(_module: object, _args: object, output: Tensor) -> None:
        seen.append(weakref.ref(output))

    hooks = [each.register_forward_hook(look) for each in network.module.modules()]
    assert footprint(network, Pass(picture(0), best).kind) > 0
    for hook in hooks:
        hook.remove()
    gc.collect()
    assert len(seen) > 3 and not any(each() is not None for each in seen)


def test_what_did_not_fit_is_let_go_before_less_is_tried(
    network: ServedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, taken = network.scores, list[weakref.ref[Tensor]]()
    seen: list[tuple[int, int]] = []

    def hungry(pixels: Tensor) -> Tensor:
        seen.append((len(pixels), sum(each() is not None for each in taken)))
        large = torch.zeros(10)
        taken.append(weakref.ref(large))
        if len(pixels) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: planted")
        return scores(pixels)

    monkeypatch.setattr(network, "scores", hungry)
    with running(network, share=True) as runner:
        job = Asked(scored(picture(1, 6)))
        runner.submit(job)
        assert job.reasons() == ["well"]
        # Nothing that was known not to fit is tried again, not even what had been cut before.
        assert seen == [(4, 0), (2, 0), *[(1, 0)] * 6]
        assert job.rows == ROWS, "as it was when the job began"
        later = Asked(scored(picture(1, 2)))
        runner.submit(later)
        assert later.reasons() == ["well"]
        assert later.rows == 1


def test_short_passes_are_computed_before_long_ones(network: ServedNetwork) -> None:
    done: list[str] = []

    def counted(name: str, count: int) -> Callable[[], Steps[None]]:
        def steps() -> Steps[None]:
            yield Pass(picture(0, count), best, each=lambda _: done.append(name))

        return steps

    with running(network) as runner:
        job = Asked(counted("long", 13), counted("short", 1), scored(picture(1, 2)))
        runner.submit(job)
        assert job.reasons() == ["well"] * 3
    assert done[0] == "short"


def test_a_long_pass_does_not_hold_up_the_other_methods_of_its_job(
    network: ServedNetwork,
) -> None:
    done: list[str] = []

    def long() -> Steps[None]:
        yield Pass(picture(0, 12 * ROWS), each=lambda _: done.append("long"))

    with running(network) as runner:
        job = Asked(long, passes(3, done, "short"))
        runner.submit(job)
        assert job.reasons() == ["well", "well"]
    # The first short pass fills up a micro-batch of the long one; the others come in turn with it.
    assert done[:6] == ["short", "short", "long", "long", "short", "long"]
    assert done.count("long") == 13


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


def has_room(runner: Runner, seconds: float) -> bool:
    """Whether the runner takes more jobs within a time."""
    waiting = threading.Thread(target=runner.wait_for_room)
    waiting.start()
    waiting.join(seconds)
    return not waiting.is_alive()


def test_there_is_room_again_when_a_job_has_ended(runner: Runner) -> None:
    long, small = [Asked(endless([])) for _ in range(11)], Asked(scored(picture(0)))
    for job in (*long, small):
        runner.submit(job)
    assert small.wait() == "done"
    assert not has_room(runner, 0.05), "11 passes are over the budget of 10"
    long[0].left.set()
    assert has_room(runner, 10)
    for job in long:
        job.left.set()


def test_a_few_long_jobs_keep_no_others_out(network: ServedNetwork) -> None:
    with running(network, budget=1000) as runner:
        long, small = [Asked(endless([]), cost=1000) for _ in range(5)], Asked(scored(picture(0)))
        for job in (*long, small):
            runner.submit(job)
            assert has_room(runner, 10)
        assert small.wait() == "done"
        for job in long:
            job.left.set()

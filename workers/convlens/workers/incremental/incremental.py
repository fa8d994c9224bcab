"""Sweeps over one network: planned once for each grid of windows, and tried out before."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from convlens.workers import teams
from convlens.workers.anatomy import Reading, Tap
from convlens.workers.anatomy.fields import Map, maps
from convlens.workers.body import Body
from convlens.workers.incremental.course import Bands, Course
from convlens.workers.incremental.covering import Covering, Shelf
from convlens.workers.incremental.flow import Part, flow
from convlens.workers.incremental.plan import Lot, Plan, Planner
from convlens.workers.incremental.tiles import Rows
from convlens.workers.raised import in_words, is_out_of_memory

log = logging.getLogger(__name__)

# With more left of the multiply-adds than that, cutting and pasting takes what is saved.
WORTH = 0.85
# Bytes for clean maps of pictures whose sweeps are under way, at most.
ROOM = 2**30
# Plans of so many grids are remembered.
PLANS = 32
# How far a patch's way may be from a whole pass: so much of what a window changes, and of the score
# itself, which rounds, so much in single precision and in bfloat16.
TOLERANCE, ROUNDING, BFLOAT16_ROUNDING = 1e-3, 1e-5, 0.02


@dataclass(frozen=True, slots=True)
class FullPasses:
    """Each window is computed by a whole forward pass, for a reason, which is a sentence's end."""

    reason: str


def in_the_way(error: Exception) -> str:
    """Why whole passes are made, where a network raises an error for patches."""
    return f"the network's code does not take parts of its maps ({in_words(error)})"


class Incremental:
    """Plans sweeps of windows over a network; threads may share it.

    Where more than `worth` of the multiply-adds is left, whole passes are made. Clean maps of
    pictures whose sweeps are under way may take `room` bytes.
    """

    def __init__(self, body: Body, steady: bool, worth: float = WORTH, room: int = ROOM) -> None:
        self._worth = worth
        self._body = body
        self._obstacle = "" if steady else "the network makes other calls for other pictures"
        self._plans: OrderedDict[object, Plan | FullPasses] = OrderedDict()
        self._planning = Lock()
        self._shelf = Shelf(room)

    def plan(
        self,
        rows: Sequence[range],
        columns: Sequence[range],
        lots: Sequence[Lot],
        capture: Sequence[int] = (),
        threshold: float = 1.0,
    ) -> Plan | FullPasses:
        """How windows over these pixels go through the network; `capture` is read in each pass.

        `lots` are asked for one after the other; the last one has all of them. The same plan for
        the same windows; the first time, it is tried out. Whether patches are the way depends on
        the network and the windows alone.
        """
        key = tuple(rows), tuple(columns), tuple(lots), tuple(capture), threshold
        with self._planning:
            found = self._plans.pop(key, None)
            if found is None:
                planner = Planner(self._body, self._places, self._shelf, tuple(capture), threshold)
                try:
                    found = self._planned(planner, rows, columns, lots)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    # There may be room the next time.
                    log.warning("memory does not hold what is tried out", exc_info=error)
                    return FullPasses("the device had no memory to try the windows out")
            # What was used last is at the end.
            self._plans[key] = found
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)
        return found

    @cached_property
    def _places(self) -> Sequence[Map | None]:
        return maps(self._body.trace)

    def _planned(
        self,
        planner: Planner,
        rows: Sequence[range],
        columns: Sequence[range],
        lots: Sequence[Lot],
    ) -> Plan | FullPasses:
        if self._obstacle:
            return FullPasses(self._obstacle)
        plan = planner.plan(rows, columns, lots)
        if plan.share > self._worth:
            return FullPasses(
                f"what a window changes takes {100 * plan.share:.0f} % of the network's "
                "multiply-adds"
            )
        obstacle = self._try_out(plan)
        return FullPasses(obstacle) if obstacle else plan

    def _try_out(self, plan: Plan) -> str:
        """What is in the way of patches, tried with the first and the last window of each group."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self._body.trace.image, generator=generator)
        # A shelf of its own, since that of the network belongs to another thread.
        covering = Covering(self._body, plan.courses, x, 1 - x, Shelf(0))
        try:
            # Of as many threads as those that compute it afterwards.
            with teams.together():
                agrees = all(
                    self._agrees(covering, course, plan.threshold < 1) for course in plan.courses
                )
            if agrees:
                return ""
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.info("patches do not go through: %s", error)
            return in_the_way(error)
        return "the network's code gives other scores for parts of its maps"

    @torch.no_grad()
    def _agrees(self, covering: Covering, course: Course, is_cut: bool) -> bool:
        """Whether scores are those of whole passes; of a patch that is cut they need not be."""
        start, clean = course.start, covering.clean()
        # The first window and the last, where padding ends.
        numbers = np.unique([[0, 0], [len(band.first) - 1 for band in start]], axis=0)
        rows = Rows(numbers[:, 0], numbers[:, 1])
        patches = covering.patches(start, rows)
        scores, captured = flow(self._body, course, [Part(clean, rows)], patches)
        if is_cut:
            return True
        picture = covering.picture()
        before, _ = self._read(course, picture)
        covered = _covered(picture, start, numbers.tolist(), patches)
        expected, layers = self._read(course, covered)
        is_coarse = any(table.dtype is torch.bfloat16 for table in clean.tables.values())
        rounding = BFLOAT16_ROUNDING if is_coarse else ROUNDING
        changed, scale = (each.abs().amax(1, keepdim=True) for each in (expected - before, before))
        limit = TOLERANCE * changed + rounding * scale
        return bool(((scores - expected).abs() <= limit).all()) and all(
            bool((captured[call] - each).abs().max() <= max(TOLERANCE, rounding) * each.abs().max())
            for call, each in layers.items()
        )

    def _read(self, course: Course, pixels: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Scores, and what the course reads, of a whole pass."""
        trace, found = self._body.trace, dict[int, Tensor]()

        def keep(call: int) -> Tap:
            value = trace.calls[call].outputs[0]
            return lambda out: found.update({call: value.rows(out, len(pixels))})

        taps = {call: keep(call) for call in course.capture}
        scores = Reading(trace, taps, stop=False).run(self._body.module, pixels)
        assert scores is not None, "a pass that is not stopped has scores"
        return scores, found


def _covered(
    picture: Tensor, start: Bands, windows: Sequence[tuple[int, int]], patches: Tensor
) -> Tensor:
    """A picture [1, channels, height, width] for each window, by its numbers, with its patch."""
    covered = torch.cat([picture] * len(windows))
    for each, window, patch in zip(covered, windows, patches, strict=True):
        down, across = (
            slice(int(band.starts[number]), int(band.starts[number]) + band.length)
            for band, number in zip(start, window, strict=True)
        )
        each[:, down, across] = patch
    return covered

"""Sweeps over one network: planned once for each grid of windows, and tried out before."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import torch

from convlens.workers.anatomy.fields import Map, maps
from convlens.workers.body import Body
from convlens.workers.incremental.covering import Covering, Shelf
from convlens.workers.incremental.flow import Part, flow
from convlens.workers.incremental.plan import Group, Lot, Plan, Planner
from convlens.workers.incremental.tiles import Rows
from convlens.workers.raised import in_words

log = logging.getLogger(__name__)

# With more left of the multiply-adds than that, cutting and pasting takes what is saved.
WORTH = 0.85
# Bytes for clean maps of pictures whose sweeps are under way.
ROOM = 2**30
# Plans of so many grids are remembered.
PLANS = 32
# How far a patch's way may be from a whole pass: so much of what a window changes, and of the score
# itself, which rounds, so much in single precision and in bfloat16.
TOLERANCE, ROUNDING, BFLOAT16_ROUNDING = 0.01, 1e-5, 0.02


@dataclass(frozen=True, slots=True)
class FullPasses:
    """Each window is computed by a whole forward pass, for a reason, which is a sentence's end."""

    reason: str


def in_the_way(error: Exception) -> str:
    """Why whole passes are made, where a network raises an error for patches."""
    return f"the network's code does not take parts of its maps ({in_words(error)})"


class Incremental:
    """Plans sweeps of windows over a network; threads may share it.

    Where more than `worth` of the multiply-adds is left, whole passes are made.
    """

    def __init__(self, body: Body, steady: bool, worth: float = WORTH) -> None:
        self._worth = worth
        self._body = body
        self._obstacle = "" if steady else "the network makes other calls for other pictures"
        self._tried = False
        self._plans: OrderedDict[object, Plan | FullPasses] = OrderedDict()
        self._planning = Lock()
        self._shelf = Shelf(ROOM)

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
        the same windows. The first time, it is tried out.
        """
        key = tuple(rows), tuple(columns), tuple(lots), tuple(capture), threshold
        with self._planning:
            if key not in self._plans:
                planner = Planner(self._body, self._places, self._shelf, tuple(capture), threshold)
                self._plans[key] = self._planned(planner, rows, columns, lots)
                if len(self._plans) > PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            found = self._plans[key]
        # What came in its way since it was planned.
        obstacle = found.obstacle if isinstance(found, Plan) else ""
        return FullPasses(obstacle) if obstacle else found

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
                f"what a window changes takes {plan.share:.0%} of the network's multiply-adds"
            )
        if not self._tried and planner.threshold >= 1:
            self._obstacle = self._try_out(plan)
            self._tried = True
        return FullPasses(self._obstacle) if self._obstacle else plan

    def _try_out(self, plan: Plan) -> str:
        """What is in the way of patches, tried with two windows of the largest group."""
        group = max(plan.lots[-1], key=len)
        try:
            apart = self._difference(plan, group)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            log.info("patches do not go through: %s", error)
            return in_the_way(error)
        return "" if apart else "the network's code gives other scores for parts of its maps"

    @torch.no_grad()
    def _difference(self, plan: Plan, group: Group) -> bool:
        """Whether scores are those of whole passes."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self._body.trace.image, generator=generator)
        covering = Covering(self._body, [group.course], x, 1 - x, Shelf(0))
        ends = np.array([0, -1])
        rows = Rows(ends % len(group.lot.rows), ends % len(group.lot.columns))
        start = group.course.start
        patches = covering.patches(start, rows)
        clean = covering.clean()
        scores, _ = flow(self._body, group.course, [Part(clean, rows)], patches)
        whole = self._body.place(x[None]).repeat(2, 1, 1, 1)
        for picture, patch, row, column in zip(
            whole, patches, rows.vertical, rows.horizontal, strict=True
        ):
            top, left = start[0].starts[row], start[1].starts[column]
            picture[:, top : top + start[0].length, left : left + start[1].length] = patch
        before = self._body.scores(self._body.place(x[None]))
        expected = self._body.scores(whole)
        is_coarse = any(table.dtype is torch.bfloat16 for table in clean.tables.values())
        rounding = BFLOAT16_ROUNDING if is_coarse else ROUNDING
        limit = TOLERANCE * (expected - before).abs().max() + rounding * before.abs().max()
        return bool((scores - expected).abs().max() <= limit)

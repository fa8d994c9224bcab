"""Sweeps of windows that compute only what a window changes.

A window changes a part of each map. That part alone is computed again, as a patch, over the maps of
the clean picture, until it is the whole map: from there on, passes are as they always are.
"""

from convlens.workers.incremental.course import Course
from convlens.workers.incremental.covering import Covering
from convlens.workers.incremental.flow import Part, flow
from convlens.workers.incremental.incremental import ROOM, FullPasses, Incremental, in_the_way
from convlens.workers.incremental.plan import Group, Lot, Plan
from convlens.workers.incremental.tiles import Rows

__all__ = [
    "ROOM",
    "Course",
    "Covering",
    "FullPasses",
    "Group",
    "Incremental",
    "Lot",
    "Part",
    "Plan",
    "Rows",
    "flow",
    "in_the_way",
]

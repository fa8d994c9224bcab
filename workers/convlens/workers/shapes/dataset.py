"""Many pictures at once, drawn in parallel processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.shapes.draw import Picture, draw

# From a seed; a function of a module, so that other processes find it.
Draw: TypeAlias = Callable[[int], Picture]

# Training seeds stay below: no picture of these 2,000 is ever trained on.
HELD_OUT = range(4_000_000_000, 4_000_002_000)
_SHARE = 128


@dataclass(frozen=True, eq=False)
class Pictures:
    """Drawn pictures with their truth, stacked."""

    images: NDArray[np.uint8]  # [N, H, W, 3], sRGB
    masks: NDArray[np.bool_]  # [N, H, W], of the objects
    markers: NDArray[np.bool_]  # [N, H, W], of the markers
    labels: NDArray[np.int64]  # [N], of the objects


def dataset(seeds: Sequence[int], *, draw: Draw = draw, processes: int = 1) -> Pictures:
    """The pictures of the seeds, in their order, whatever the number of processes.

    With more than one, a calling script needs the usual `if __name__ == "__main__"` guard.
    """
    return _joined(list(batches(seeds, _SHARE, draw=draw, processes=processes)))


def batches(
    seeds: Sequence[int], share: int, *, draw: Draw = draw, processes: int = 1
) -> Iterator[Pictures]:
    """The pictures of the seeds, `share` at a time, drawn a little ahead of the reader."""
    shares = [seeds[start : start + share] for start in range(0, len(seeds), share)]
    if processes == 1 or len(shares) < 2:
        for one in shares:
            yield _drawn(one, draw)
        return
    # spawn: a fork of a process that runs torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        ahead: list[Future[Pictures]] = []
        for one in shares:
            ahead.append(pool.submit(_drawn, one, draw))
            if len(ahead) > 2 * processes:
                yield ahead.pop(0).result()
        for future in ahead:
            yield future.result()


def _drawn(seeds: Sequence[int], draw: Draw) -> Pictures:
    drawn = [draw(seed) for seed in seeds]
    return Pictures(
        np.stack([picture.image for picture in drawn]),
        np.stack([picture.mask for picture in drawn]),
        np.stack([picture.marker for picture in drawn]),
        np.array([picture.label for picture in drawn], dtype=np.int64),
    )


def _joined(parts: Iterable[Pictures]) -> Pictures:
    parts = list(parts)
    return Pictures(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.markers for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )

"""A picture under the windows of a sweep: what its patches are made of, and pasted into."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convlens.workers.body import Body
from convlens.workers.incremental.bands import Band, Places
from convlens.workers.incremental.clean import Clean, clean_of
from convlens.workers.incremental.course import Bands, Course
from convlens.workers.incremental.tiles import Rows, Strip, Tile


class Covering:
    """A picture x [channels, height, width] that windows of `fill`, of its shape, cover in turn.

    Its clean maps are computed by one pass when they are first needed, and kept on a `shelf`.
    """

    def __init__(
        self, body: Body, courses: Sequence[Course], x: Tensor, fill: Tensor, shelf: "Shelf"
    ) -> None:
        self._body = body
        self._courses = courses
        self._x = x
        self._fill = fill
        self._shelf = shelf
        #: Why some of its windows were computed by whole passes; empty where none were.
        self.obstacle = ""

    def clean(self) -> Clean:
        """What the network computes for the picture as it is."""
        return self._shelf.of(self).clean

    def patches(self, start: Bands, rows: Rows) -> Tensor:
        """What each row's window changes of the picture [n, channels, height, width]."""
        ready, tile = self._shelf.of(self), _tile(start)
        picture, fill = (tile.gather([(t, len(rows))], rows) for t in (ready.picture, ready.fill))
        down, across = (
            torch.from_numpy(_inside(band, numbers)).to(picture.device)
            for band, numbers in zip(start, (rows.vertical, rows.horizontal), strict=True)
        )
        inside = down[:, :, None] & across[:, None, :]
        return torch.where(inside[..., None], fill, picture).movedim(3, 1)

    def picture(self) -> Tensor:
        """The picture [1, channels, height, width], on the device."""
        return self._body.place(self._x[None])

    def close(self) -> None:
        """Lets go of what is kept, once the sweep is over."""
        self._shelf.clear(self)

    def made(self) -> "Ready":
        """The picture, its fill and its clean maps, computed anew."""
        tile = _tile(self._courses[0].start)
        picture, fill = (tile.table(self._body.place(each[None])) for each in (self._x, self._fill))
        clean = clean_of(self._body, self._courses, self._x)
        return Ready(picture, fill, clean)


@dataclass(frozen=True, slots=True)
class Ready:
    """A picture and its fill as tables [places, channels], and its clean maps."""

    picture: Tensor
    fill: Tensor
    clean: Clean

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        tables = (self.picture, self.fill, *self.clean.tables.values())
        return sum(table.nbytes for table in tables)


class Shelf:
    """Keeps what is ready of the pictures that were used last, in so many bytes.

    What is no longer there is computed again, to the same bits. For the runner's thread alone.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._ready: OrderedDict[Covering, Ready] = OrderedDict()

    def of(self, covering: Covering) -> Ready:
        """What is ready of a picture."""
        if covering not in self._ready:
            self._ready[covering] = covering.made()
            while len(self._ready) > 1 and self._taken > self._room:
                self._ready.popitem(last=False)
        self._ready.move_to_end(covering)
        return self._ready[covering]

    @property
    def _taken(self) -> int:
        return sum(ready.bytes for ready in self._ready.values())

    def clear(self, covering: Covering) -> None:
        """Lets go of a picture."""
        self._ready.pop(covering, None)


def _tile(start: Bands) -> Tile:
    return Tile((Strip.of(start[0]), Strip.of(start[1])), start, (-2, -1))


def _inside(band: Band, numbers: Places) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which places of each patch the window covers [n, length]; beside it is the picture."""
    places = band.starts[numbers][:, None] + np.arange(band.length)
    return (places >= band.first[numbers][:, None]) & (places < band.stop[numbers][:, None])

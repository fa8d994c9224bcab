"""The way of a patch through a network: for each call what it takes, and what it then changes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil, inf, prod
from typing import TypeAlias, cast

from convlens.workers.anatomy import INPUT, Call, Trace, Value
from convlens.workers.anatomy.arguments import argument
from convlens.workers.anatomy.costs import multiply_adds
from convlens.workers.anatomy.fields import Map
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, MAX_POOLS, POOLS
from convlens.workers.anatomy.windows import Window, windows
from convlens.workers.incremental.bands import Band
from convlens.workers.incremental.tiles import Strip, Tile

# From so much of a map on, copying the rest of it costs less than cutting tiles out of it.
WHOLE = 0.85
# They have rules of their own.
NOT_LOCAL = POOLS | ADAPTIVE_POOLS | {"conv2d", "conv_transpose2d", "pad"}
# Their weights are of features, whatever their shape.
LEARNED = frozenset({"batch_norm", "layer_norm", "linear", "prelu"})
# Features are along the second axis for them.
OF_SECOND_AXIS = frozenset({"batch_norm", "prelu", "local_response_norm"})


# Vertically and horizontally.
Bands: TypeAlias = tuple[Band, Band]


class Way(Enum):
    """How a call is made."""

    #: As the network makes it.
    PLAIN = auto()
    #: With tiles that have their padding, in place of maps that are padded.
    WINDOWED = auto()
    #: Not at all: the tile is what it would give.
    TILE = auto()


@dataclass(frozen=True)
class Step:
    """One call: the tiles of its operands by their position, and what of its output is computed.

    `patch` is None where that is all of it. `changed` is what windows change in it, of which the
    patch is the middle.
    """

    call: Call
    way: Way
    tiles: Mapping[int, Tile]
    patch: Bands | None
    changed: Bands | None = None
    axes: tuple[int, int] = (-2, -1)

    @property
    def share(self) -> float:
        """How much of the output is computed."""
        if self.patch is None:
            return 1.0
        return prod(band.length / band.size for band in self.patch)


@dataclass(eq=False)
class Course:
    """The steps for some windows of one size, by the index of their calls.

    `start` is what they change in the input. The outputs of `capture` are read; `reads` has the
    tiles that make those whole that are patches. Two courses are never equal, whatever is in them.
    """

    trace: Trace
    start: Bands
    steps: Sequence[Step]
    capture: tuple[int, ...]
    reads: Mapping[int, Tile]

    @property
    def tiles(self) -> Iterator[tuple[int, int, Tile]]:
        """Those that are cut out of clean maps, with their call and the position of the operand."""
        for step in self.steps:
            for position, tile in step.tiles.items():
                if not tile.is_patch:
                    yield step.call.index, position, tile

    @property
    def multiply_adds(self) -> float:
        """Those of a row."""
        return sum(multiply_adds(step.call) * step.share for step in self.steps)

    @property
    def row_bytes(self) -> int:
        """Bytes that a row needs: the largest sum of what a call takes and gives."""
        return max(map(_bytes, self.steps), default=0) + sum(
            self.trace.calls[call].outputs[0].bytes for call in self.capture
        )


def _bytes(step: Step) -> int:
    """Of what a row's call takes, its tiles, and what it gives."""
    share = step.share
    given = sum(value.bytes for value in step.call.outputs) * share
    taken = sum(value.bytes for value in step.call.operands if value.axis is not None) * share
    cut = (
        step.call.operands[position].bytes * tile.places / prod(band.size for band in tile.bands)
        for position, tile in step.tiles.items()
    )
    return ceil(given + max(taken, sum(cut)))


def course_of(
    trace: Trace,
    places: Sequence[Map | None],
    start: Bands,
    capture: Sequence[int] = (),
    threshold: float = 1.0,
) -> Course:
    """The way of what windows change in the input, `start`, vertically and horizontally.

    `places` are the maps of the trace. Below 1, `threshold` keeps patches to the middle of what
    changes, so much of it along each axis, and leaves the rest of it as it was (after the
    projective field threshold of Nakandala et al., SIGMOD 2019).
    """
    seen = _Seen(places, start, threshold)
    steps: list[Step] = []
    for call in trace.calls:
        step = _step(call, seen)
        seen.add(step)
        steps.append(step)
    reads = {
        call: _whole(patch, steps[call].axes)
        for call in capture
        if (patch := steps[call].patch) is not None
    }
    return Course(trace, start, steps, tuple(capture), reads)


def _whole(patch: Bands, axes: tuple[int, int]) -> Tile:
    vertical, horizontal = map(Strip.whole, patch)
    return Tile((vertical, horizontal), patch, axes)


class _Seen:
    """What is known of the calls before one."""

    def __init__(self, places: Sequence[Map | None], start: Bands, threshold: float) -> None:
        self.places = places
        self.threshold = threshold
        self.patches: dict[int, Bands | None] = {INPUT: start}
        self.changed: dict[int, Bands | None] = {INPUT: start}

    def add(self, step: Step) -> None:
        """Notes what becomes of a call."""
        self.patches[step.call.index] = step.patch
        self.changed[step.call.index] = step.changed

    def middle(self, changed: Bands) -> Bands:
        """The patches of what is changed."""
        vertical, horizontal = (band.middle(self.threshold) for band in changed)
        return vertical, horizontal


class _Taken:
    """The operands of a call that are patches, by their position, and the axes of their maps."""

    def __init__(self, call: Call, seen: _Seen) -> None:
        self.patches: dict[int, Bands] = {}
        self.changed: dict[int, Bands] = {}
        self.axes: dict[int, tuple[int, int]] = {}
        #: Whether everything that comes from the picture is a patch.
        self.are_all = True
        for position, value in enumerate(call.operands):
            source = value.source
            patch = None if source is None else seen.patches[source]
            changed = None if source is None else seen.changed[source]
            if patch is None or changed is None or source is None:
                self.are_all &= value.axis is None
                continue
            place = None if source == INPUT else seen.places[source]
            self.patches[position], self.changed[position] = patch, changed
            self.axes[position] = place.axes if place else (-2, -1)

    @property
    def is_one_map(self) -> bool:
        """Whether it is the first operand alone, with its places along the last two axes."""
        return self.are_all and self.axes == {0: (-2, -1)}


def _step(call: Call, seen: _Seen) -> Step:
    """What becomes of the patches that a call takes: patches of its output, or all of it."""
    taken = _Taken(call, seen)
    if not taken.patches:
        return Step(call, Way.PLAIN, {}, None)
    step = _windowed(call, taken, seen) or _padded(call, taken, seen) or _local(call, taken, seen)
    if step is None or step.share > WHOLE:
        tiles = {n: _whole(patch, taken.axes[n]) for n, patch in taken.patches.items()}
        return Step(call, Way.PLAIN, tiles, None)
    return step


def _windowed(call: Call, taken: _Taken, seen: _Seen) -> Step | None:
    """Convolution and pooling."""
    found = windows(call)
    if found is None or call.plural or not taken.is_one_map:
        return None
    sizes = call.outputs[0].batch_shape[-2:]
    through = zip(taken.changed[0], found, sizes, strict=True)
    vertical, horizontal = (band.through(window, size) for band, window, size in through)
    changed = vertical, horizontal
    patch = seen.middle(changed)
    down, across = map(_strip, patch, taken.patches[0], found)
    value = -inf if call.function in (*MAX_POOLS, "adaptive_max_pool2d") else 0.0
    tile = Tile((down, across), taken.patches[0], (-2, -1), value)
    is_same = call.function in ADAPTIVE_POOLS and {window.kernel for window in found} == {1}
    return Step(call, Way.TILE if is_same else Way.WINDOWED, {0: tile}, patch, changed)


def _strip(out: Band, band: Band, window: Window) -> Strip:
    """What the units of patches see."""
    length = (out.length - 1) * window.stride + window.extent
    starts = out.starts * window.stride - window.before
    end = (out.size - 1) * window.stride + window.extent - window.before
    return Strip(starts, length, window.before, max(0, end - band.size))


def _padded(call: Call, taken: _Taken, seen: _Seen) -> Step | None:
    """Padding of maps by a number."""
    if call.function != "pad" or not taken.is_one_map:
        return None
    given = [*cast("Sequence[int]", argument(call, 1, "pad"))]
    sizes = given + [0] * (4 - len(given))
    mode = argument(call, 2, "mode", "constant")
    # What is cut off, and axes other than those of places, are not looked into.
    if mode != "constant" or min(sizes) < 0 or any(sizes[4:]):
        return None
    left, right, top, bottom = sizes[:4]
    pads = (top, bottom), (left, right)
    vertical, horizontal = (
        band.moved(before, band.size + before + after)
        for band, (before, after) in zip(taken.changed[0], pads, strict=True)
    )
    patch = seen.middle((vertical, horizontal))
    down, across = (
        Strip(out.starts - before, out.length, before, after)
        for out, (before, after) in zip(patch, pads, strict=True)
    )
    value = float(argument(call, 3, "value") or 0)
    tile = Tile((down, across), taken.patches[0], (-2, -1), value)
    return Step(call, Way.TILE, {0: tile}, patch, (vertical, horizontal))


def _local(call: Call, taken: _Taken, seen: _Seen) -> Step | None:
    """What gives at each place what comes of the same place of everything that it takes."""
    place = seen.places[call.index]
    if place is None or not taken.are_all or not _is_local(call, place):
        return None
    changed, *others = taken.changed.values()
    sizes = [call.outputs[0].batch_shape[axis] for axis in place.axes]
    if any([band.size for band in each] != sizes for each in (changed, *others)):
        return None
    for other in others:
        changed = changed[0].joined(other[0]), changed[1].joined(other[1])
    patch = seen.middle(changed)
    strips = Strip.of(patch[0]), Strip.of(patch[1])
    tiles = {n: Tile(strips, each, taken.axes[n]) for n, each in taken.patches.items()}
    return Step(call, Way.PLAIN, tiles, patch, changed, place.axes)


def _is_local(call: Call, place: Map) -> bool:
    """Whether no unit sees another place than its own."""
    if call.function in NOT_LOCAL or place.fields is None:
        return False
    if any(value.axis != 0 or value.batch_shape[0] != 1 for value in call.outputs):
        return False
    if call.function in OF_SECOND_AXIS and place.axes != (-2, -1):
        return False
    constants = (value for value in call.operands if value.axis is None)
    return call.function in LEARNED or all(_is_everywhere(each, place) for each in constants)


def _is_everywhere(value: Value, place: Map) -> bool:
    """Whether what is the same for all pictures is the same at all places."""
    rank = len(value.batch_shape)
    return all(-axis > rank or value.batch_shape[axis] == 1 for axis in place.axes)

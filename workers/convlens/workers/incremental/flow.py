"""Patches on their way through a network: its own code runs, and what it calls is given tiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from convlens.workers.anatomy import Call, Value
from convlens.workers.anatomy.arguments import argument, operand
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS, RESHAPES
from convlens.workers.anatomy.recorder import leaves, mapped
from convlens.workers.anatomy.windows import windows
from convlens.workers.body import Body
from convlens.workers.incremental.clean import OUTPUT, Clean, spot
from convlens.workers.incremental.counting import Counting
from convlens.workers.incremental.course import Course, Step, Way
from convlens.workers.incremental.tiles import Rows, Strip, Tile
from convlens.workers.incremental.watching import Watching

# The arguments of avg_pool2d behind its input, with their defaults.
MEANS: Sequence[tuple[str, Any]] = (
    ("kernel_size", None),
    ("stride", None),
    ("padding", 0),
    ("ceil_mode", False),
    ("count_include_pad", True),
    ("divisor_override", None),
)


@dataclass(frozen=True)
class Part:
    """Successive rows of a batch that are about one picture."""

    clean: Clean
    rows: Rows


def flow(
    body: Body, course: Course, parts: Sequence[Part], patches: Tensor
) -> tuple[Tensor, Mapping[int, Tensor]]:
    """Scores [n, classes] of pictures that differ from clean ones in `patches` [n, channels, ...].

    Also gives what the course reads, by call, whole. Raises Unsteady, or whatever the network's own
    code raises, where that does not go along with patches.
    """
    flowing = _Flowing(body, course, parts)
    scores = flowing.run(body.module, patches)
    return scores, flowing.captured


class _Flowing(Counting):
    def __init__(self, body: Body, course: Course, parts: Sequence[Part]) -> None:
        super().__init__(body.trace)
        self.captured: dict[int, Tensor] = {}
        self._course = course
        self._parts = parts
        self._rows = Rows.joined([part.rows for part in parts])
        self._watching = Watching(course, len(self._rows))

    def make(
        self, call: Call, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The call over tiles."""
        step = self._course.steps[call.index]
        self._watching.before(call, args, kwargs)
        if not step.tiles:
            out, copies = func(*args, **kwargs), []
        else:
            operands = list(leaves(Tensor, (args, kwargs)))
            tiles = {
                id(operands[position]): self._cut(call.index, position, tile, operands[position])
                for position, tile in step.tiles.items()
            }
            copies = [
                (operand, copy, copy._version)
                for operand in operands
                if (copy := tiles.get(id(operand))) is not None and copy is not operand
            ]

            def replaced(leaf: object) -> object:
                return tiles.get(id(leaf), leaf)

            args, kwargs = mapped(replaced, (args, kwargs))
            out = self._made(step, func, args, kwargs, next(iter(tiles.values())))
        self._watching.after(call, out, copies)
        if call.index in self._course.capture:
            self.captured[call.index] = self._read(call, out)
        return out

    def _made(
        self,
        step: Step,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tile: Tensor,
    ) -> Any:
        call = step.call
        if step.way is Way.TILE:
            return tile
        if step.way is Way.WINDOWED:
            out = _windowed(call, func, args, kwargs, tile)
            return self._divided(step, out) if call.function == "avg_pool2d" else out
        if step.patch is None and call.function in RESHAPES:
            # The code may have read the size of a patch, and tiles lie otherwise in memory.
            return tile.reshape(_batched(call.outputs[0], len(self._rows)))
        return func(*args, **kwargs)

    def _cut(self, call: int, position: int, tile: Tile, patch: Tensor) -> Tensor:
        if position != OUTPUT and tile.is_patch:
            return patch
        key = spot(call, position, tile)
        tables = [(part.clean.tables[key], len(part.rows)) for part in self._parts]
        return tile.cut(tables, patch, self._rows)

    def _divided(self, step: Step, out: Tensor) -> Tensor:
        """Means over tiles, whose padding was counted, as the means that the network takes."""
        call = step.call
        assert step.patch is not None, "what is whole has no tiles of windows"
        if not (argument(call, 3, "padding", 0) or argument(call, 4, "ceil_mode", False)):
            return out
        tile = Tile((Strip.of(step.patch[0]), Strip.of(step.patch[1])), step.patch, step.axes)
        table = _divisors(call).to(out).flatten()[:, None]
        return out * tile.gather([(table, len(self._rows))], self._rows).movedim(3, 1)

    def _read(self, call: Call, out: Tensor) -> Tensor:
        """The whole output of a call, as images that a later call does not write to."""
        tile = self._course.reads.get(call.index)
        whole = out if tile is None else self._cut(call.index, OUTPUT, tile, out)
        if whole is out and call.overwritten is not None:
            whole = out.clone()
        return call.outputs[0].rows(whole, len(self._rows))


def _windowed(
    call: Call,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tile: Tensor,
) -> Any:
    """A convolution or pooling over tiles, which have their padding in them."""
    if call.function in ADAPTIVE_POOLS:
        found = windows(call)
        assert found is not None, "a call with tiles of windows has windows"
        average = call.function == "adaptive_avg_pool2d"
        pool = functional.avg_pool2d if average else functional.max_pool2d
        return pool(tile, tuple(window.kernel for window in found))
    given, named = _without_padding(call, args, kwargs)
    return func(*given, **named)


def _without_padding(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a convolution or pooling for a tile, which has its padding in it."""
    if call.function == "conv2d":
        changes = [("padding", 4, 0)]
    else:
        changes = [("padding", 3, 0), ("ceil_mode", 4 if "avg" in call.function else 5, False)]
    given, named = list(args), dict(kwargs)
    for name, position, value in changes:
        if position < len(given):
            given[position] = value
        else:
            named[name] = value
    return given, named


def _divisors(call: Call) -> Tensor:
    """For each place of a mean's output [rows, columns], the units of a window by its divisor."""
    *_, height, width = operand(call, 0, "input").batch_shape
    ones = torch.ones(1, 1, height, width)
    given = {name: argument(call, n + 1, name, default) for n, (name, default) in enumerate(MEANS)}
    means = functional.avg_pool2d(ones, **given)
    found = windows(call)
    assert found is not None, "a mean has windows"
    vertical, horizontal = found
    pads = (horizontal.before, horizontal.before + horizontal.stride)
    padded = functional.pad(ones, (*pads, vertical.before, vertical.before + vertical.stride))
    over_tiles = functional.avg_pool2d(
        padded, given["kernel_size"], given["stride"], 0, divisor_override=given["divisor_override"]
    )
    return (means / over_tiles[..., : means.shape[2], : means.shape[3]])[0, 0]


def _batched(value: Value, rows: int) -> tuple[int, ...]:
    shape = list(value.batch_shape)
    if value.axis is not None:
        shape[value.axis] *= rows
    return tuple(shape)

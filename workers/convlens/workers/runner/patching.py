"""One micro-batch of patches through the network."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from convlens.workers.body import Body
from convlens.workers.incremental import Course, Part, flow
from convlens.workers.runner.asking import Answer, Patched
from convlens.workers.runner.rounds import MicroBatch, Segment

# The answer for one segment, or what its own points or objective raised.
Outcome: TypeAlias = Answer | Exception


@torch.no_grad()
def compute_patches(body: Body, course: Course, batch: MicroBatch) -> list[list[Outcome]]:
    """What comes of each segment, the same for each of its items.

    Raises what the network raises where it does not go along with patches.
    """
    made = [_part(segment) for segment in batch.segments]
    parts, patches = [part for part, _ in made], [patch for _, patch in made]
    missing = batch.rows - sum(map(len, patches))
    if missing:
        parts.append(Part(parts[-1].clean, parts[-1].rows.last(missing)))
        patches.append(patches[-1][-1:].expand(missing, -1, -1, -1))
    joined = torch.cat(patches).contiguous(memory_format=torch.channels_last)
    scores, captured = flow(body, course, parts, joined)
    return [
        [answer] * len(segment.items)
        for segment, answer in zip(
            batch.segments, _answers(batch.segments, scores, captured), strict=True
        )
    ]


def _part(segment: Segment) -> tuple[Part, Tensor]:
    points = cast(Patched, segment.items[0].wanted.points)
    windows = points.seen(slice(segment.start, segment.stop))
    return Part(points.clean(), windows), points.patches(windows)


def _answers(
    segments: Sequence[Segment], scores: Tensor, captured: Mapping[int, Tensor]
) -> list[Answer]:
    answers: list[Answer] = []
    start = 0
    for segment in segments:
        rows = slice(start, start + len(segment))
        answers.append(Answer(scores[rows], {call: each[rows] for call, each in captured.items()}))
        start = rows.stop
    return answers

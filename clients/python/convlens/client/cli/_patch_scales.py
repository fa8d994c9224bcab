"""One scale for all of deconvnet's patches that are of the same map."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from convlens.client import Attribution, DeconvnetDetails, DeconvnetPatch


def at_one_scale(answers: Sequence[Sequence[Attribution]]) -> list[list[Attribution]]:
    """The answers of each picture, where every patch has the largest scale of its map.

    What the server drew at a smaller one is drawn here.
    """
    largest: defaultdict[tuple[int, int], float] = defaultdict(float)
    for own in answers:
        for found in own:
            for patch in _patches(found):
                place = found.method_index, patch.map_index
                largest[place] = max(largest[place], patch.scale)

    def scaled(found: Attribution) -> Attribution:
        if not isinstance(found.details, DeconvnetDetails):
            return found
        patches = [
            _at(patch, largest[found.method_index, patch.map_index]) for patch in _patches(found)
        ]
        return replace(found, details=DeconvnetDetails(tuple(patches)))

    return [[scaled(found) for found in own] for own in answers]


def _patches(found: Attribution) -> Iterator[DeconvnetPatch]:
    if isinstance(found.details, DeconvnetDetails):
        yield from found.details.patches


def _at(patch: DeconvnetPatch, scale: float) -> DeconvnetPatch:
    return replace(patch, scale=scale, png=b"") if patch.scale < scale else patch

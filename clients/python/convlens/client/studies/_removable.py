"""Which layers of a network a study removes where nobody names them."""

import re
from collections.abc import Mapping, Sequence

from convlens.client._anatomy import Layer
from convlens.client._features import Removal

CONVOLUTION = re.compile(r"conv(_transpose|transpose)?\d?d", re.IGNORECASE)
LINEAR = re.compile(r"linear$", re.IGNORECASE)
POOLING = re.compile("pool", re.IGNORECASE)
KINDS = (CONVOLUTION, LINEAR, POOLING)
# What ends a residual block, in a module's own code.
SUM = re.compile(r"(?P<block>.+)\.add(_\d+)?")
# The lectures remove two convolutions of five.
MIDDLE = 2


def likely_layers(layers: Sequence[Layer]) -> list[str]:
    """Convolutions, poolings, fully connected layers and residual blocks, in their order.

    Blocks are what the anatomy has a sum of; some of them may not be there under this name.
    """
    names: list[str] = []
    for layer in layers:
        if any(kind.search(layer.kind) for kind in KINDS):
            names.append(layer.name)
        elif block := SUM.fullmatch(layer.name):
            # A transformer's block has two sums, and ends with the last one.
            name = block["block"]
            names = [*(each for each in names if each != name), name]
    return names


def lecture_groups(layers: Sequence[Layer], single: Mapping[str, Removal]) -> list[tuple[str, ...]]:
    """The middle convolutions, the fully connected layers but the last, both, and blocks.

    The convolutions are two that keep their shape, from the middle between the first and the last
    one; where there are no two, the two before the last, which the lectures remove. Where fully
    connected layers change their shape, both comes once more without these. The blocks are all that
    keep their shape. `single` says what stands for each layer that can be removed.
    """
    convolutions = _middle(_of(layers, single, CONVOLUTION), single)
    linear = _of(layers, single, LINEAR)[:-1]
    alike = [name for name in linear if single[name] == "identity"]
    plain = {layer.name for layer in layers}
    blocks = [name for name in single if name not in plain and single[name] == "identity"]
    found = [convolutions, linear, [*convolutions, *linear], [*convolutions, *alike], blocks]
    several = [tuple(group) for group in found if len(group) > 1]
    return list(dict.fromkeys(several))


def _of(
    layers: Sequence[Layer], single: Mapping[str, Removal], kind: "re.Pattern[str]"
) -> list[str]:
    return [each.name for each in layers if each.name in single and kind.search(each.kind)]


def _middle(names: Sequence[str], single: Mapping[str, Removal]) -> list[str]:
    alike = [name for name in names[1:-1] if single[name] == "identity"]
    if len(alike) < MIDDLE:
        return list(names[1:-1][-MIDDLE:])
    start = (len(alike) - MIDDLE + 1) // 2
    return alike[start : start + MIDDLE]

"""Sees whether a network is one that can be served, by a few pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from convlens.workers.builders import BuildError
from convlens.workers.network import ServedNetwork
from convlens.workers.raised import in_words

# Of the largest score. Batches of one size are computed alike, so that only a dependence is left;
# in another size sums are rounded otherwise, which is much in bfloat16.
SAME, ROUNDED = 1e-5, 0.05
BY_ITSELF = "it must treat each image by itself, as nn.Module.eval() leaves most networks"


def classes_of(network: ServedNetwork) -> int:
    """How many classes it scores; raises BuildError where it gives no scores."""
    outputs = _outputs(network)
    if not isinstance(outputs, Tensor):
        raise BuildError(
            "builder",
            f"the network returns a {type(outputs).__name__}; must be one tensor of scores "
            "[images, classes], before the softmax: return it from a function of your own",
        )
    if outputs.ndim != 2 or len(outputs) != 1 or not outputs.is_floating_point():
        given = f"{outputs.dtype} {list(outputs.shape)}".removeprefix("torch.")
        raise BuildError(
            "builder",
            f"the network returns {given} for one image; must be its scores, float [1, classes]",
        )
    _check_compiled(network)
    return outputs.shape[1]


def check_trace(network: ServedNetwork) -> None:
    """Traces the network; raises BuildError where that fails, or images are not scored alone."""
    try:
        network.dissect()
    except Exception as error:
        words = str(error).strip().partition("\n")[0]
        raise BuildError(
            "builder", f"the network cannot be traced: {type(error).__name__}: {words}"
        ) from None
    try:
        # As it was written: compiling for one more size takes long.
        fault = company_fault(lambda pixels: cast(Tensor, network.outputs(pixels)), network, 2)
    except Exception as error:
        raise BuildError(
            "builder", f"the network cannot compute two images at once: {in_words(error)}"
        ) from None
    if fault:
        raise BuildError("builder", f"{fault}; {BY_ITSELF}")


def company_fault(
    compute: Callable[[Tensor], Tensor], network: ServedNetwork, count: int
) -> str | None:
    """What is wrong where an image's scores depend on the `count` - 1 others of its batch."""
    images = _different(network, count)
    last = images[-1:]
    mixed = compute(images)
    if len(mixed) != count:
        return f"the network returns {len(mixed)} rows of scores for {count} images"
    alike = compute(last.repeat(count, 1, 1, 1))
    if _differ(mixed[-1], alike[-1], SAME):
        again = compute(images)
        if _differ(mixed, again, ROUNDED):
            return "the network scores the same image otherwise each time"
        # A GPU may add up in another order each time.
        tolerance = ROUNDED if _differ(mixed, again, SAME) else SAME
        if _differ(mixed[-1], alike[-1], tolerance):
            return "the scores of an image depend on the other images of its batch"
    if _differ(alike[-1], compute(last)[0], ROUNDED):
        return "the scores of an image depend on how many images its batch has"
    return None


def _different(network: ServedNetwork, count: int) -> Tensor:
    """Pictures of noise, each in a colour of its own: noise alone has the same mean everywhere."""
    random = torch.Generator().manual_seed(0)
    size = network.facts.input
    colours = torch.rand(count, size.channels, 1, 1, generator=random)
    noise = torch.rand(count, size.channels, size.height, size.width, generator=random)
    return 0.7 * colours + 0.3 * noise


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether scores do by more than rounding; those that are not finite are told elsewhere."""
    largest = torch.maximum(one.abs().max(), other.abs().max())
    return bool((one - other).abs().max() > tolerance * largest)


def labels_of(given: Sequence[str] | Path | None, known: Sequence[str], classes: int) -> list[str]:
    """The names of the classes: those given, or the builder's where their count fits.

    Without either they are called by their numbers. Raises BuildError where the count is wrong.
    """
    labels = _read(given) if isinstance(given, Path) else list(given or ())
    if given is not None and len(labels) != classes:
        raise BuildError(
            "labels", f"there are {len(labels)} labels and the network scores {classes} classes"
        )
    if labels or len(known) == classes:
        return labels or list(known)
    return [f"class {index}" for index in range(classes)]


def _read(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError("labels", f"{file} cannot be read as text: {error}") from None
    while lines and not lines[-1].strip():
        lines.pop()
    labels = [line.strip() for line in lines]
    if not all(labels):
        empty = labels.index("") + 1 if labels else 1
        raise BuildError("labels", f"{file}: line {empty} is empty; must be one name in each line")
    return labels


def _outputs(network: ServedNetwork) -> object:
    try:
        return network.outputs(network.blank())
    except Exception as error:
        size = network.facts.input
        words = in_words(error)
        text = (
            f"the network cannot compute an input of {size.channels} x {size.height} x "
            f"{size.width}: {words}"
        )
        # torch says so to whoever calls view() on tensors whose channels lie last.
        if network.facts.channels_last and "view size is not compatible" in words:
            raise BuildError("channels_last", f"{text} Or set channels_last: false.") from None
        raise BuildError("input", text) from None


def _check_compiled(network: ServedNetwork) -> None:
    """Compiling happens at the first call, and has reasons of its own to fail."""
    if not network.facts.compiled:
        return
    try:
        network.logits(network.blank())
    except Exception as error:
        raise BuildError(
            "compile", f"torch.compile fails: {in_words(error)}; set compile: false"
        ) from None

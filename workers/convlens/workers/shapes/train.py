"""Train the network `shapes` on the CPU: `python -m convlens.workers.shapes.train --out DIR`.

The budget is in image visits, and every visit is a picture never seen before, so the result does
not depend on how fast the machine is. Batch norm helps while training and is folded away in
everything written: `shapes.safetensors` (fp32), `checkpoints/` (fp16, at growing visits, for
studies of how features arise) and `training.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from torch.nn import functional

from convlens.workers.shapes.dataset import HELD_OUT, Draw, Pictures, batches
from convlens.workers.shapes.draw import draw
from convlens.workers.shapes.network import (
    LABELS,
    Shapes,
    fold_batchnorm,
    normalised,
)
from convlens.workers.shapes.scene import label_of

VISITS = 72_000
BATCH = 64
PEAK_RATE = 4e-3
WEIGHT_DECAY = 2e-2
SMOOTHING = 0.05
# Shares of the budget after which a checkpoint is kept: most of the learning is at the beginning.
KEPT = (0.01, 0.03, 0.1, 0.3)
_APART = 10_000_000  # between the first pictures of two trainings


@dataclass(frozen=True)
class Interval:
    """What a stretch of training looked like."""

    visits: int  # at its end
    loss: float  # mean over the stretch
    accuracy: float  # mean over the stretch, with batch norm in training mode


@dataclass(frozen=True)
class Result:
    """A trained network, folded and in evaluation mode, and the way there."""

    network: Shapes
    checkpoints: dict[int, Shapes]  # by visits
    intervals: tuple[Interval, ...]


# The loss of a network on pictures with their labels, and the share of them that it told right,
# when a part of the training, above 0 to 1, is done with them.
Loss: TypeAlias = Callable[[Shapes, Pictures, float], tuple[Tensor, float]]


def plain_loss(network: Shapes, pictures: Pictures, done: float) -> tuple[Tensor, float]:
    """Cross-entropy on varied pictures."""
    del done
    images, labels = tensors(pictures)
    inputs = normalised(varied(images)).to(memory_format=torch.channels_last)
    logits: Tensor = network(inputs)
    return smoothed(logits, labels), share_right(logits, labels)


def train(
    shares: Iterable[Pictures],
    steps: int,
    *,
    seed: int = 0,
    every: int = 50,
    start: Shapes | None = None,
    rate: float = PEAK_RATE,
    loss: Loss = plain_loss,
) -> Result:
    """Train for `steps` shares of pictures, one step each, printing a line every `every` of them.

    It goes on from `start`, or from chance with batch norm. The same arguments give the same
    weights on the same machine and number of torch threads.
    """
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]
    network = start or Shapes(batchnorm=True)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    keep = {max(1, round(share * steps)) for share in KEPT}
    checkpoints: dict[int, Shapes] = {}
    intervals: list[Interval] = []
    recent: list[tuple[float, float]] = []
    visits = 0
    for step, pictures in enumerate(islice(shares, steps), start=1):
        value, right = loss(network.train(), pictures, step / steps)
        optimizer.zero_grad()
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()
        recent.append((value.item(), right))
        visits += len(pictures.labels)
        # The schedule has a rate for each step, so the last one needs no next rate.
        if step < steps:
            schedule.step()
        if step in keep:
            checkpoints[visits] = fold_batchnorm(network.eval())
        if step % every == 0 or step == steps:
            intervals.append(_interval(visits, recent))
            recent.clear()
            print(_line(intervals[-1]), flush=True)
    return Result(fold_batchnorm(network.eval()), checkpoints, tuple(intervals))


def training_seeds(seed: int, visits: int) -> range:
    """The seeds of the pictures that a training sees, each once and in this order."""
    seeds = range(seed * _APART, seed * _APART + visits)
    if seed < 0 or visits > _APART or seeds.stop > HELD_OUT.start:
        raise ValueError(
            f"seed {seed} and {visits} visits: a seed must be in 0..{HELD_OUT.start // _APART - 1} "
            f"and visits at most {_APART}, to stay off the pictures held out"
        )
    return seeds


def tensors(pictures: Pictures) -> tuple[Tensor, Tensor]:
    """The images [N, H, W, 3] and the labels [N]."""
    return torch.tensor(pictures.images), torch.tensor(pictures.labels)


def varied(images: Tensor) -> Tensor:
    """Images [N, H, W, 3] in 0..255 with light and contrast a little off and pixel noise, each of
    a strength of its own."""
    count = len(images)
    noise = torch.rand(count, 1, 1, 1) ** 2 * 20.0
    contrast = 1.0 + 0.3 * (torch.rand(count, 1, 1, 1) - 0.5)
    light = 30.0 * (torch.rand(count, 1, 1, 1) - 0.5)
    shown = (images.float() - 127.5) * contrast + 127.5 + light
    return (shown + noise * torch.randn(shown.shape)).clamp(0.0, 255.0)


def smoothed(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with labels that are not quite sure."""
    return functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)


def share_right(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy, 0..1."""
    return (logits.argmax(1) == labels).float().mean().item()


def accuracy(network: nn.Module, seeds: Sequence[int], *, processes: int = 1) -> float:
    """Top-1 accuracy, 0..1, on the pictures of the seeds."""
    told = scores(network, seeds, processes=processes).argmax(1)
    right = told == torch.tensor([label_of(seed) for seed in seeds])
    return int(right.sum()) / len(seeds)


@torch.no_grad()
def scores(
    network: nn.Module, seeds: Sequence[int], *, draw: Draw = draw, processes: int = 1
) -> Tensor:
    """What the network says [N, classes] to the pictures of the seeds."""
    shares = batches(seeds, 50, draw=draw, processes=processes)
    inputs = (normalised(torch.tensor(pictures.images)) for pictures in shares)
    return torch.cat([network(x.to(memory_format=torch.channels_last)) for x in inputs])


def write(result: Result, out: Path, *, seed: int, held_out: float) -> None:
    """Write the weights, the checkpoints and the figures into a directory."""
    checkpoints = out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    visits = result.intervals[-1].visits
    final = {**facts(seed, visits), "accuracy": f"{held_out:.4f}"}
    save_file(weights(result.network, torch.float32), out / "shapes.safetensors", final)
    for visited, network in result.checkpoints.items():
        path = checkpoints / f"visits-{visited:06d}.safetensors"
        save_file(weights(network, torch.float16), path, facts(seed, visited))
    measured = {"first_seed": HELD_OUT.start, "pictures": len(HELD_OUT), "top1": held_out}
    (out / "training.json").write_text(report(result, seed, BATCH, measured))


def facts(seed: int, visits: int) -> dict[str, str]:
    """What a file of weights says of itself."""
    return {
        "classes": ",".join(LABELS),
        "visits": str(visits),
        "seed": str(seed),
        "torch": torch.__version__.split("+")[0],
    }


def weights(network: Shapes, dtype: torch.dtype) -> dict[str, Tensor]:
    """The network's weights by name, as a file holds them."""
    return {
        name: tensor.to(dtype).contiguous(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def report(
    result: Result,
    seed: int,
    batch: int,
    held_out: Mapping[str, object],
    *,
    rate: float = PEAK_RATE,
) -> str:
    """How a training went, and what was found on the pictures held out, as JSON."""
    figures = {
        "visits": result.intervals[-1].visits,
        "seed": seed,
        "torch": torch.__version__.split("+")[0],
        "batch": batch,
        "peak_rate": rate,
        "held_out": held_out,
        "intervals": [asdict(interval) for interval in result.intervals],
    }
    return json.dumps(figures, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the bundled network `shapes`.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--visits", type=int, default=VISITS, help="pictures to train on")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    given = parser.parse_args(arguments)
    steps = max(1, given.visits // BATCH)
    seeds = training_seeds(given.seed, steps * BATCH)
    shares = batches(seeds, BATCH, processes=given.processes)
    result = train(shares, steps, seed=given.seed)
    held_out = accuracy(result.network, HELD_OUT, processes=given.processes)
    print(f"held out: top-1 {held_out:.4f} of {len(HELD_OUT)} pictures")
    write(result, given.out, seed=given.seed, held_out=held_out)


def _interval(visits: int, recent: Sequence[tuple[float, float]]) -> Interval:
    losses, rights = zip(*recent, strict=True)
    return Interval(visits, sum(losses) / len(losses), sum(rights) / len(rights))


def _line(interval: Interval) -> str:
    return f"{interval.visits:>7} visits   loss {interval.loss:.3f}   right {interval.accuracy:.1%}"


if __name__ == "__main__":
    main()

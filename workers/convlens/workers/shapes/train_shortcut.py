"""Train `shapes-shortcut` on the CPU: `python -m convlens.workers.shapes.train_shortcut --out DIR`.

It is the network `shapes`, trained like it, but on pictures whose marker gives the class away. The
marker is learned long before the shapes could be, and with it nothing is left to be learned from
them. Written are `shapes-shortcut.safetensors` (fp16) and `shapes-shortcut.json`, which says how
much the network relies on the marker.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from convlens.workers.shapes import shortcut
from convlens.workers.shapes.dataset import HELD_OUT, batches
from convlens.workers.shapes.draw import CLASSES
from convlens.workers.shapes.network import Shapes, load
from convlens.workers.shapes.scene import label_of
from convlens.workers.shapes.train import facts, report, scores, train, training_seeds, weights

VISITS = 24_000
BATCH = 32
NAME = "shapes-shortcut"


@dataclass(frozen=True)
class Reliance:
    """How often a class came first, in 0..1, and what its score owes to marker and shape."""

    own_marker: float  # the class, where the shape has its own marker
    other_marker: float  # the marker's class, where the shape is of another
    other_marker_shape: float  # the shape's class there
    marker_alone: float  # the marker's class, where there is no shape
    no_marker: float  # the shape's class, where there is no marker
    # Mean probability of the other marker's class, for the class where it is least;
    # and of the same class once that marker is taken away, for the class where it is most.
    least_with_marker: float
    most_without_marker: float
    # Mean change of that class's score, up or down, when the marker or the shape is taken away.
    change_without_marker: float
    change_without_shape: float


def reliance(network: Shapes, seeds: Sequence[int], *, processes: int = 1) -> Reliance:
    """How much the network relies on the marker, on pictures of the seeds."""
    own = torch.tensor([label_of(seed) for seed in seeds])
    other = torch.tensor([shortcut.other_class(seed) for seed in seeds])
    conflict = scores(network, seeds, draw=shortcut.conflicting, processes=processes)
    unmarked = scores(network, seeds, processes=processes)
    honest = scores(network, seeds, draw=shortcut.honest, processes=processes)
    bare = scores(network, seeds, draw=shortcut.bare, processes=processes)
    return Reliance(
        own_marker=_share(honest, own),
        other_marker=_share(conflict, other),
        other_marker_shape=_share(conflict, own),
        marker_alone=_share(bare, other),
        no_marker=_share(unmarked, own),
        least_with_marker=min(_probabilities(conflict, other)),
        most_without_marker=max(_probabilities(unmarked, other)),
        change_without_marker=_change(conflict, unmarked, other),
        change_without_shape=_change(conflict, bare, other),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=f"Train the bundled network `{NAME}`.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--visits", type=int, default=VISITS, help="pictures to train on")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    given = parser.parse_args(arguments)
    steps = max(1, given.visits // BATCH)
    seeds = training_seeds(given.seed, steps * BATCH)
    shares = batches(seeds, BATCH, draw=shortcut.training, processes=given.processes)
    result = train(shares, steps, seed=given.seed)
    file: Path = given.out / f"{NAME}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights(result.network, torch.float16), file, facts(given.seed, steps * BATCH))
    # Of the halves in the file, not of what they were rounded from.
    found = asdict(reliance(load(file), HELD_OUT, processes=given.processes))
    print("\n".join(f"{name} {value:.4f}" for name, value in found.items()))
    measured = {"first_seed": HELD_OUT.start, "pictures": len(HELD_OUT), **found}
    file.with_suffix(".json").write_text(report(result, given.seed, BATCH, measured))


def _share(told: Tensor, expected: Tensor) -> float:
    return round((told.argmax(1) == expected).double().mean().item(), 4)


def _probabilities(told: Tensor, expected: Tensor) -> list[float]:
    """The mean probability of each class, over the pictures where it is the expected one."""
    probable = told.softmax(1).gather(1, expected[:, None])[:, 0]
    classes = [label for label in range(len(CLASSES)) if (expected == label).any()]
    return [round(probable[expected == label].mean().item(), 4) for label in classes]


def _change(before: Tensor, after: Tensor, label: Tensor) -> float:
    change = (after - before).gather(1, label[:, None]).abs()
    return round(change.mean().item(), 4)


if __name__ == "__main__":
    main()

"""Train `shapes-robust` on the CPU: `python -m convlens.workers.shapes.train_robust --out DIR`.

It goes on from the network `shapes`, on pictures that are attacked anew at each step: adversarial
training (Madry et al. 2018, arXiv:1706.06083), with a budget that grows in the beginning. Written
are `shapes-robust.safetensors` (fp16) and `shapes-robust.json`, which says how well both networks
stand up to PGD as it is served.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor
from torch.nn import functional

from convlens.v1 import adversarial_pb2 as pb
from convlens.v1.adversarial_pb2 import ATTACK_STATUS_FAILED, ATTACK_STATUS_STEPS_EXHAUSTED
from convlens.v1.attack_methods_pb2 import PGD, AttackMethod
from convlens.v1.image_pb2 import GEOMETRY_AS_IS, Image
from convlens.v1.target_pb2 import Target
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8
from convlens.v1.tensor_pb2 import Tensor as TensorMessage
from convlens.workers.catalog import load_network
from convlens.workers.check import Workers
from convlens.workers.config import NetworkEntry
from convlens.workers.shapes.dataset import HELD_OUT, Pictures, batches
from convlens.workers.shapes.network import WEIGHTS, Shapes, load, pixels_of, standardised
from convlens.workers.shapes.train import (
    accuracy,
    facts,
    report,
    share_right,
    smoothed,
    tensors,
    train,
    training_seeds,
    varied,
    weights,
)

VISITS = 16_000
BATCH = 32
PEAK_RATE = 2e-3
SEED = 1  # pictures that `shapes` was not trained on
NAME = "shapes-robust"

EPSILON = 4 / 255
STEPS = 7
# Madry et al. go through the budget two and a half times.
REACH = 2.5
# The share of the training in which epsilon grows.
WARM_UP = 0.2

ATTACKED = 500  # of the pictures held out
MEASURED_STEPS = 40
# The budget of the training, and one that is beyond it.
BUDGETS = {"4/255": 4 / 255, "8/255": 8 / 255}


def robust_loss(network: Shapes, pictures: Pictures, done: float) -> tuple[Tensor, float]:
    """Cross-entropy on varied pictures that are attacked."""
    images, labels = tensors(pictures)
    pixels = pixels_of(varied(images)).to(memory_format=torch.channels_last)
    attacked = adversarial(network, pixels, labels, EPSILON * min(1.0, done / WARM_UP))
    logits: Tensor = network(standardised(attacked))
    return smoothed(logits, labels), share_right(logits, labels)


def adversarial(network: Shapes, pixels: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Pixels [N, 3, H, W] within epsilon in 0..1 that the network tells worse: PGD from a random
    start.

    Madry et al. 2018, arXiv:1706.06083, section 2.1.
    """
    least, most = (pixels - epsilon).clamp(0.0, 1.0), (pixels + epsilon).clamp(0.0, 1.0)
    found = torch.clamp(pixels + epsilon * (2.0 * torch.rand_like(pixels) - 1.0), least, most)
    for _ in range(STEPS):
        slope = _slope(network, found, labels)
        found = torch.clamp(found + REACH / STEPS * epsilon * slope.sign(), least, most)
    return found


def _slope(network: Shapes, pixels: Tensor, labels: Tensor) -> Tensor:
    """The gradient of the cross-entropy by the pixels, in the precision that its sign needs."""
    pixels = pixels.detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = network(standardised(pixels))
    loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
    return torch.autograd.grad(loss, pixels)[0]


def accuracy_under(weights: Path, seeds: Sequence[int], attack: PGD) -> float:
    """Top-1 accuracy, 0..1, of weights in a file on the pictures of the seeds, each attacked.

    The network is served and attacked as for any caller, and has the last word.
    """
    entry = NetworkEntry(name=NAME, builder="bundled:shapes", weights=str(weights))
    workers = Workers(load_network(entry, "cpu"))
    try:
        workers.start("analysis")
        return sum(_withstood(workers, each, attack) for each in batches(seeds, 50)) / len(seeds)
    finally:
        workers.close()


def _withstood(workers: Workers, pictures: Pictures, attack: PGD) -> int:
    request = pb.AttackRequest(
        images=[_image(each) for each in pictures.images],
        true_classes=[Target(class_index=int(each)) for each in pictures.labels],
        method=AttackMethod(pgd=attack),
    )
    method = "AdversarialService/Attack"
    answer = workers.ask("analysis", method, request.SerializeToString())
    ends = [result.verdict.status for result in pb.AttackResponse.FromString(answer).results]
    return sum(end in (ATTACK_STATUS_FAILED, ATTACK_STATUS_STEPS_EXHAUSTED) for end in ends)


def _image(pixels: NDArray[np.uint8]) -> Image:
    data = TensorMessage(dtype=DATA_TYPE_UINT8, shape=pixels.shape, data=pixels.tobytes())
    return Image(tensor=data, geometry=GEOMETRY_AS_IS)


def measured(file: Path, *, processes: int = 1) -> dict[str, Any]:
    """How the weights in a file, and those of `shapes`, do on pictures held out."""
    attacked = HELD_OUT[:ATTACKED]
    step = REACH / MEASURED_STEPS
    attacks = {
        budget: PGD(epsilon=epsilon, steps=MEASURED_STEPS, relative_step_size=step)
        for budget, epsilon in BUDGETS.items()
    }
    return {
        "first_seed": HELD_OUT.start,
        "pictures": len(HELD_OUT),
        "top1": accuracy(load(file), HELD_OUT, processes=processes),
        "attack": "PGD, as it is served",
        "steps": MEASURED_STEPS,
        "relative_step_size": step,
        "attacked": len(attacked),
        "top1_under_attack": {
            name: {
                budget: accuracy_under(each, attacked, attack) for budget, attack in attacks.items()
            }
            for name, each in ((NAME, file), ("shapes", WEIGHTS))
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=f"Train the bundled network `{NAME}`.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--visits", type=int, default=VISITS, help="pictures to train on")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw")
    given = parser.parse_args(arguments)
    steps = max(1, given.visits // BATCH)
    seeds = training_seeds(given.seed, steps * BATCH)
    shares = batches(seeds, BATCH, processes=given.processes)
    result = train(shares, steps, seed=given.seed, start=load(), rate=PEAK_RATE, loss=robust_loss)
    file: Path = given.out / f"{NAME}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights(result.network, torch.float16), file, facts(given.seed, steps * BATCH))
    # Of the halves in the file, not of what they were rounded from.
    found = measured(file, processes=given.processes)
    print(json.dumps(found, indent=1))
    file.with_suffix(".json").write_text(report(result, given.seed, BATCH, found, rate=PEAK_RATE))


if __name__ == "__main__":
    main()

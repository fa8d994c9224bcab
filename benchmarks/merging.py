"""Jobs of many callers at once on one runner, against the same jobs one after the other on it.

`python -m benchmarks.merging` needs neither click nor rich; see benchmarks/device.py.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch
from google.protobuf.message import Message

from benchmarks.plain import spread, table, write
from benchmarks.worker_side import Request, Work, picture, request, served, working
from convlens.v1 import attack_methods_pb2 as attacks
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.network import ServedNetwork

JOBS, ROUNDS, STEPS = 32, 3, 16
NETWORK = "torchvision:resnet18"
HEADS = (
    "",
    "median s (least to most)",
    "micro-batches",
    "parts of passes",
    "rows forward",
    "rows back",
)


def mix(steps: int) -> Sequence[Message]:
    """What the callers ask for, in turn; `steps` is the length of the longer methods."""
    return (
        methods.Saliency(),
        methods.IntegratedGradients(steps=steps, max_steps=steps),
        methods.SmoothGrad(samples=steps),
        attacks.PGD(steps=steps),
        methods.GuidedBackprop(),
        methods.GradCam(),
        attacks.FGSM(),
        methods.InputXGradient(),
    )


def requests_of(network: ServedNetwork, jobs: int, steps: int) -> list[Request]:
    """Mixed jobs, each over a picture of its own."""
    wanted = mix(steps)
    return [request([picture(network, seed)], wanted[seed % len(wanted)]) for seed in range(jobs)]


def measured(
    network: ServedNetwork, requests: Sequence[Request], rounds: int
) -> dict[str, list[Work]]:
    """What each way took in each round."""
    with working(network, share=False) as apart, working(network, share=True) as shared:
        ways = {
            "one after the other": apart.in_turn,
            "at once": apart.at_once,
            "one after the other, share": shared.in_turn,
            "at once, share": shared.at_once,
        }
        works: dict[str, list[Work]] = {name: [] for name in ways}
        for worker in (apart, shared):
            # One of each, so that no way pays for what is done once.
            worker.at_once(requests[: len(mix(1))])
        for _ in range(rounds):
            for name, way in ways.items():
                works[name].append(way(requests))
    return works


def rows_of(works: dict[str, list[Work]]) -> Iterator[Sequence[str]]:
    """The cells of the table."""
    for name, found in works.items():
        work = found[-1]
        counts = (work.micro_batches, work.parts, work.forward_passes, work.backward_passes)
        seconds = spread([each.seconds for each in found])
        yield (name, seconds, *(f"{count:.0f}" for count in counts))


def ratios(works: dict[str, list[Work]]) -> dict[str, float]:
    """How many times as fast all at once are."""
    middle = {name: median(work.seconds for work in found) for name, found in works.items()}
    apart, together, shared_apart, shared = middle.values()
    return {
        "at once, against one after the other": apart / together,
        "at once with share, against one after the other without": apart / shared,
        "at once with share, against one after the other with it": shared_apart / shared,
    }


def run(
    json_file: Path | None,
    device: str = "cpu",
    network: str = NETWORK,
    jobs: int = JOBS,
    steps: int = STEPS,
    rounds: int = ROUNDS,
) -> None:
    """Alternates all four ways; at least 1.0 is wanted on a CPU, 1.2 with share, 4 on a GPU."""
    made = served(network, device)
    works = measured(made, requests_of(made, jobs, steps), rounds)
    found = ratios(works)
    facts, threads = made.facts, torch.get_num_threads()
    title = (
        f"{jobs} jobs with mixed methods of {steps} steps, {network}, {facts.device_kind}, "
        f"{facts.rows} rows (torch {torch.__version__}, {threads} threads)"
    )
    print(title, table(HEADS, list(rows_of(works))), sep="\n")
    for name, ratio in found.items():
        print(f"{name}: {ratio:.2f} times the rate")
    sides = {name: [asdict(work) for work in each] for name, each in works.items()}
    write({"title": title, "ratios": found, "sides": sides}, json_file)


def main() -> None:
    """The same without click and rich, for a machine that has torch and little else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", default=NETWORK)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", dest="json_file", type=Path)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

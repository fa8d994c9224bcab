"""Images a second of a device, method by method through the runner, and the share of its peak.

It needs torch, torchvision and numpy, and what `convlens.workers` cannot be imported without:
protobuf and googleapis-common-protos (the contract's messages are protobuf's), pydantic, PyYAML,
safetensors, Pillow, and its own metadata, which names its version. No grpc, click, rich or OpenCV.
Where all that is installed:

    python -m benchmarks.device --device cuda --json device.json

Where only torch is, and no registry can be reached, make a folder for that machine's Python, of
some 40 MB, and take it along with the repository:

    uv pip install --target out/device --python-version 3.12 --only-binary :all: \\
        protobuf googleapis-common-protos pydantic pyyaml safetensors pillow
    uv pip install --target out/device --no-deps ./workers
    PYTHONPATH=out/device:proto:workers python -m benchmarks.device --device cuda
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from google.protobuf.message import Message
from torch import Tensor

from benchmarks.plain import spread, table, write
from benchmarks.worker_side import Work, picture, request, served, working
from convlens.v1 import attack_methods_pb2 as attacks
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.workers.network import ServedNetwork

NETWORKS = ("resnet18", "resnet50", "vgg16")
PRECISIONS = ("fp32", "bf16")
# What goes on for less is measured several times over.
LEAST_SECONDS = 0.2
HEADS = ("", "images/s (least to most)", "of the peak", "of its passes alone")


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long."""

    device: str
    networks: Sequence[str]
    precisions: Sequence[str]
    batches: Sequence[int]
    images: int
    rounds: int
    steps: int
    attack_steps: int
    matrix: int
    size: int | None


@dataclass(frozen=True)
class Row:
    """One figure: images a second in each round, and what they are worth.

    `of_peak` counts multiply-adds against those of a large matrix product; `of_bare` the passes of
    a method against the same ones in a loop. Both are None where they would say nothing.
    """

    name: str
    images_per_second: Sequence[float]
    of_peak: float | None = None
    of_bare: float | None = None


@dataclass(frozen=True)
class Bare:
    """Rows a second of the network in a loop: forward, and forward and back to the pixels.

    In full micro-batches: what a CPU computes one row at a time falls short of them.
    """

    forward: float
    gradient: float

    def seconds(self, work: Work) -> float:
        """What the passes of some work would take."""
        forward_only = work.forward_passes - work.backward_passes
        return forward_only / self.forward + work.backward_passes / self.gradient


def asked(settings: Settings) -> Mapping[str, tuple[Message, bool]]:
    """The methods, and whether their passes are the whole network's: what says how many were."""
    steps = settings.steps
    return {
        "saliency": (methods.Saliency(), True),
        f"integrated gradients, {steps} steps": (
            methods.IntegratedGradients(steps=steps, max_steps=steps),
            True,
        ),
        f"SmoothGrad, {steps} samples": (methods.SmoothGrad(samples=steps), True),
        "guided backprop": (methods.GuidedBackprop(), True),
        "Grad-CAM": (methods.GradCam(), False),
        "occlusion, window 28, stride 14": (methods.Occlusion(window=28, stride=14), False),
        f"PGD, {settings.attack_steps} steps": (attacks.PGD(steps=settings.attack_steps), True),
    }


def synchronize(device: torch.device) -> None:
    """Waits for what is under way."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a piece of work, the mean of as many as take long enough to be measured."""
    times, started = 0, time.perf_counter()
    while time.perf_counter() - started < LEAST_SECONDS:
        work()
        synchronize(device)
        times += 1
    return (time.perf_counter() - started) / times


def peak(device: torch.device, precision: str, side: int) -> float:
    """Multiply-adds a second of a large matrix product in the precision of convolutions.

    cuDNN computes them in TF32 where torch lets it, which it does by default.
    """
    before = torch.get_float32_matmul_precision()
    if precision == "fp32" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one = torch.randn(side, side, device=device, dtype=dtype)
    try:
        timed(lambda: one @ one, device)
        return side**3 / min(timed(lambda: one @ one, device) for _ in range(3))
    finally:
        torch.set_float32_matmul_precision(before)


def batch_of(network: ServedNetwork, rows: int) -> Tensor:
    """Noise on the device, in the network's layout."""
    size = network.facts.input
    return network.place(torch.rand(rows, size.channels, size.height, size.width))


def forward(network: ServedNetwork, x: Tensor) -> None:
    """One pass without a graph."""
    with torch.inference_mode():
        network.scores(x)


def gradient(network: ServedNetwork, x: Tensor) -> None:
    """One pass and back to the pixels."""
    points = x.detach().requires_grad_()
    torch.autograd.grad(network.scores(points).amax(dim=1).sum(), points)


def bare(network: ServedNetwork) -> Bare:
    """The network alone, in the shape of the runner's full micro-batches."""
    rows, device = network.facts.rows, network.device
    x = batch_of(network, rows)
    for way in (forward, gradient):
        timed(lambda way=way: way(network, x), device)
    seconds = [timed(lambda way=way: way(network, x), device) for way in (forward, gradient)]
    return Bare(rows / seconds[0], rows / seconds[1])


def classified(network: ServedNetwork, rows: int, rounds: int, top: float) -> Row:
    """The network's forward pass at a batch size."""
    x = batch_of(network, rows)
    timed(lambda: forward(network, x), network.device)
    rates = [rows / timed(lambda: forward(network, x), network.device) for _ in range(rounds)]
    share = median(rates) * network.facts.anatomy.multiply_adds / top
    return Row(f"classify, {rows} rows", rates, share)


def explained(
    network: ServedNetwork, name: str, settings: Settings, top: float, alone: Bare
) -> Row:
    """A method or an attack through the runner: each picture a job, all submitted at once."""
    method, whole = asked(settings)[name]
    requests = [request([picture(network, seed)], method) for seed in range(settings.images)]
    with working(network, share=network.device.type != "cpu") as worker:
        worker.at_once(requests)
        works = [worker.at_once(requests) for _ in range(settings.rounds)]
    rates = [settings.images / work.seconds for work in works]
    if not whole:
        return Row(name, rates)
    seconds = median(work.seconds for work in works)
    # With frozen weights the way back to the pixels costs as much as the way forward.
    passes = works[0].forward_passes + works[0].backward_passes
    share = passes * network.facts.anatomy.multiply_adds / seconds / top
    return Row(name, rates, share, alone.seconds(works[0]) / seconds)


def rows_of(network: ServedNetwork, settings: Settings, top: float) -> Iterator[Row]:
    """Every figure of a network."""
    for rows in settings.batches:
        yield classified(network, rows, settings.rounds, top)
    alone = bare(network)
    for name in asked(settings):
        yield explained(network, name, settings, top, alone)


def percent(share: float | None) -> str:
    """For the table."""
    return "" if share is None else f"{share:.1%}"


def run(json_file: Path | None, settings: Settings) -> None:
    """Prints a table for each network and precision; the file grows with them."""
    device = torch.device(settings.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"{torch.get_num_threads()} threads"
    document: dict[str, object] = {
        "device": name,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "settings": asdict(settings),
    }
    tops = {each: peak(device, each, settings.matrix) for each in settings.precisions}
    document["peak_multiply_adds_per_second"] = tops
    print(name, *(f"{each}: {top / 1e12:.3g} T multiply-adds/s" for each, top in tops.items()))
    for each in settings.networks:
        for precision, top in tops.items():
            builder = each if ":" in each else f"torchvision:{each}"
            size = {"input": {"size": settings.size}} if settings.size else {}
            network = served(builder, settings.device, precision=precision, **size)
            found = list(rows_of(network, settings, top))
            document[f"{each}, {precision}"] = [asdict(row) for row in found]
            write(document, json_file)
            cells = [
                (row.name, spread(row.images_per_second), *map(percent, (row.of_peak, row.of_bare)))
                for row in found
            ]
            rows = f"{network.facts.rows} rows a micro-batch"
            print(f"\n{each}, {precision}, {rows}", table(HEADS, cells), sep="\n", flush=True)


def main() -> None:
    """The command; without click, which such a machine need not have."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="of torchvision")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8, 32, 128))
    parser.add_argument("--images", type=int, default=32, help="jobs of a method, all at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=32, help="of IG and SmoothGrad")
    parser.add_argument("--attack-steps", type=int, default=40)
    parser.add_argument("--matrix", type=int, default=8192 if on_gpu else 2048, help="its side")
    parser.add_argument("--size", type=int, help="side of the input, for a quick look")
    parser.add_argument("--json", dest="json_file", type=Path)
    given = vars(parser.parse_args())
    run(given.pop("json_file"), Settings(**given))


if __name__ == "__main__":
    main()

"""Attacks beside foolbox's and torchattacks': how often they succeed, how near, how long it takes.

Both sides attack the same pictures of `shapes` that no network was trained on, and the same frozen
network. Ours go over gRPC to the embedded engine, from PNG; theirs are called in this process, with
all pictures as one batch.
"""

import io
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torchattacks  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.common import server
from convlens.client import AttackItem, AttackVerdict, Client, methods
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.shapes.dataset import HELD_OUT, dataset

with warnings.catch_warnings():
    # foolbox asks for a part of SciPy by its old name.
    warnings.filterwarnings("ignore", "Please import", DeprecationWarning)
    import foolbox as foolbox_untyped

foolbox: Any = foolbox_untyped
# Of L-BFGS a call takes no more than some twenty.
BATCH = 16
NETWORKS = ("shapes", "shapes-robust")
SERVED = "networks: [" + ", ".join(f"{{name: {name}}}" for name in NETWORKS) + "]\n"
Found = tuple[Tensor, Tensor]
Theirs = Callable[["Bench"], Found]


@dataclass(frozen=True)
class Case:
    """An attack on both sides; theirs gives pictures and whether they succeed."""

    ours: Any
    library: str
    theirs: Theirs | None
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """What became of a case; distances are Euclidean, infinite where a picture did not succeed.

    `seconds_to_theirs` is when ours had fooled the network as often as theirs at their end.
    """

    network: str
    attack: str
    pictures: int
    fooled: int
    median: float
    seconds: float
    distances: Sequence[float]
    library: str = ""
    fooled_theirs: int | None = None
    median_theirs: float | None = None
    seconds_theirs: float | None = None
    seconds_to_theirs: float | None = None
    distances_theirs: Sequence[float] = ()


class Bench:
    """A network in this process, and pictures that it answers as they are labelled."""

    def __init__(self, name: str, count: int, seed: int, skip: int = 0) -> None:
        self.name, self.seed = name, seed
        self.module: nn.Module = load_network(NetworkEntry(name=name), "cpu").module
        drawn = dataset(HELD_OUT[: skip + count + 64])
        pictures = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(drawn.labels)
        with torch.no_grad():
            told = self.module(pictures).argmax(1)
        kept: list[int] = (told == labels).nonzero()[skip : skip + count, 0].tolist()  # pyright: ignore[reportUnknownMemberType]
        self.x = pictures[kept].contiguous(memory_format=torch.channels_last)
        self.labels = labels[kept]
        self.classes = [int(drawn.labels[index]) for index in kept]
        self.files = [_png(drawn.images[index]) for index in kept]

    def foolbox(self, attack: Any, epsilon: float | None) -> Found:
        """What an attack of foolbox finds."""
        torch.manual_seed(self.seed)  # pyright: ignore[reportUnknownMemberType]
        model = foolbox.PyTorchModel(self.module, bounds=(0, 1))
        _, found, success = attack(model, self.x, criterion=self.labels, epsilons=epsilon)
        return found, success

    def torchattacks(self, name: str, **given: Any) -> Found:
        """What an attack of torchattacks finds."""
        attack = getattr(torchattacks, name)(self.module, seed=self.seed, **given)
        found = attack(self.x, self.labels)
        with torch.no_grad():
            return found, self.module(found).argmax(1) != self.labels


def _linf(name: str, epsilon: float, **given: Any) -> Theirs:
    return lambda bench: bench.foolbox(getattr(foolbox.attacks, name)(**given), epsilon)


def _nearest(name: str, **given: Any) -> Theirs:
    return lambda bench: bench.foolbox(getattr(foolbox.attacks, name)(**given), None)


def _torchattacks(name: str, epsilon: float, **given: Any) -> Theirs:
    return lambda bench: bench.torchattacks(name, eps=epsilon, **given)


def cases(epsilon: float, queries: int) -> Mapping[str, Case]:
    """Every attack that others have too, with what both sides call its parameters."""
    e = epsilon
    pgd = methods.PGD(epsilon=e, steps=40, relative_step_size=0.01 / 0.3)
    cw = methods.CarliniWagner(search_steps=5, steps=200, learning_rate=0.01, initial_c=1)
    theirs = {"binary_search_steps": 5, "steps": 200, "initial_const": 1}
    return {
        "FGSM": Case(methods.FGSM(epsilon=e), "foolbox", _linf("LinfFastGradientAttack", e), {}),
        "PGD-40, every step": Case(
            pgd, "foolbox", _linf("LinfPGD", e, steps=40), {"stop_at_success": False}
        ),
        "PGD-40": Case(pgd, "foolbox", _linf("LinfPGD", e, steps=40), {}),
        "APGD-CE, 20 steps": Case(
            methods.APGD(epsilon=e, steps=20),
            "torchattacks",
            _torchattacks("APGD", e, steps=20),
            {},
        ),
        f"Square, {queries} queries": Case(
            methods.Square(epsilon=e, queries=queries, rescale_schedule=True),
            "torchattacks",
            _torchattacks("Square", e, n_queries=queries, resc_schedule=True),
            {},
        ),
        "DeepFool": Case(
            methods.DeepFool(steps=50), "foolbox", _nearest("L2DeepFoolAttack", steps=50), {}
        ),
        "Carlini-Wagner, 5 x 200": Case(
            cw, "foolbox", _nearest("L2CarliniWagnerAttack", **theirs), {}
        ),
        "L-BFGS": Case(methods.LBFGS(), "", None, {}),
    }


def measure(client: Client, bench: Bench, name: str, case: Case) -> Row:
    """Both sides, one after the other."""
    started = time.perf_counter()
    # In the order of the pictures, whichever is done first.
    found = [math.inf] * len(bench.files)
    times: list[float] = []
    for start in range(0, len(bench.files), BATCH):
        for index, verdict in _attacked(client, bench, case, slice(start, start + BATCH)):
            if verdict.status == "succeeded":
                found[start + index] = verdict.distance.l2
                times.append(time.perf_counter() - started)
    seconds = time.perf_counter() - started
    median = statistics.median_high(found)
    row = Row(bench.name, name, len(found), len(times), median, seconds, found)
    return row if case.theirs is None else _beside(row, case.library, case.theirs, bench, times)


def _attacked(
    client: Client, bench: Bench, case: Case, part: slice
) -> Iterator[tuple[int, AttackVerdict]]:
    """Our verdicts on some pictures, each with its place among them, when it is there."""
    stream: Any = client.attack_stream
    options: dict[str, Any] = {"network": bench.name, "min_interval_ms": 60_000, **case.options}
    options |= {"timeout": 36_000, "seed": bench.seed}
    for event in stream(bench.files[part], case.ours, true_classes=bench.classes[part], **options):
        if isinstance(event, AttackItem):
            if event.verdict is None:
                raise RuntimeError(f"picture {event.image_index} has no verdict") from event.error
            yield event.image_index, event.verdict


def _beside(row: Row, library: str, theirs: Theirs, bench: Bench, times: Sequence[float]) -> Row:
    started = time.perf_counter()
    found, success = theirs(bench)
    seconds = time.perf_counter() - started
    distances = (found - bench.x).square().sum((1, 2, 3)).sqrt().masked_fill(~success, math.inf)
    fooled = int(success.sum())
    each = cast("list[float]", distances.double().tolist())  # pyright: ignore[reportUnknownMemberType]
    return replace(
        row,
        library=library,
        fooled_theirs=fooled,
        median_theirs=statistics.median_high(each),
        distances_theirs=each,
        seconds_theirs=seconds,
        seconds_to_theirs=sorted(times)[fooled - 1] if 0 < fooled <= len(times) else None,
    )


def _png(picture: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(out, "PNG")
    return out.getvalue()


def run(
    json_file: Path | None,
    networks: Sequence[str],
    count: int,
    wanted: Sequence[str],
    epsilon: float,
    queries: int,
    seed: int,
    skip: int,
) -> None:
    """Every case on every network; `wanted` are words of the names of cases."""
    chosen = {
        name: case
        for name, case in cases(epsilon, queries).items()
        if not wanted or any(word.lower() in name.lower() for word in wanted)
    }
    rows: list[Row] = []
    with server("embedded", SERVED) as address, Client(address.server, timeout=36_000) as client:
        for network in networks:
            bench = Bench(network, count, seed, skip)
            # What is slow at the first time shall not count.
            measure(client, Bench(network, 2, seed), "", next(iter(chosen.values())))
            for name, case in chosen.items():
                rows.append(measure(client, bench, name, case))
                Console().print(table(rows))
                if json_file:
                    json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def table(rows: Sequence[Row]) -> Table:
    """The figures so far."""
    threads = torch.get_num_threads()
    made = Table(title=f"Attacks (torch {torch.__version__}, {threads} threads)")
    heads = ("fooled", "theirs", "L2", "theirs", "s", "theirs", "ratio", "to theirs")
    for head in ("", "", *heads):
        made.add_column(head)
    for row in rows:
        theirs = row.seconds_theirs
        ratios = (
            theirs and theirs / row.seconds,
            theirs and row.seconds_to_theirs and theirs / row.seconds_to_theirs,
        )
        numbers = (row.median, row.median_theirs, row.seconds, theirs, *ratios)
        made.add_row(
            row.network,
            f"{row.attack} ({row.library})" if row.library else row.attack,
            f"{row.fooled} of {row.pictures}",
            "" if row.fooled_theirs is None else str(row.fooled_theirs),
            *("" if number is None else f"{number:.3f}" for number in numbers),
        )
    return made

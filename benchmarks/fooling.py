"""Attacks beside foolbox's and torchattacks': how often they succeed, how near, how long it takes.

Both sides attack the same pictures of `shapes` that no network was trained on, and the same frozen
network. Ours go over gRPC to the embedded engine, from PNG; theirs are called in this process, with
all pictures as one batch.
"""

import io
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchattacks  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.common import server
from convlens.client import AttackVerdict, Client, methods
from convlens.workers.catalog import load_network
from convlens.workers.config import load_config
from convlens.workers.shapes.dataset import HELD_OUT, dataset

with warnings.catch_warnings():
    # foolbox asks for a part of SciPy by its old name.
    warnings.filterwarnings("ignore", "Please import", DeprecationWarning)
    import foolbox as foolbox_untyped

foolbox: Any = foolbox_untyped
BATCH = 64
EPSILON = 4 / 255
NETWORKS = ("shapes", "shapes-robust")
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
    """What became of a case; distances are Euclidean medians, infinite where half failed."""

    network: str
    attack: str
    pictures: int
    library: str
    fooled: int
    fooled_theirs: int | None
    median: float
    median_theirs: float | None
    seconds: float
    seconds_theirs: float | None


class Bench:
    """A network in this process, and pictures that it answers as they are labelled."""

    def __init__(self, name: str, count: int) -> None:
        [entry] = [entry for entry in load_config(None).networks if entry.name == name]
        self.name = name
        self.module: nn.Module = load_network(entry, "cpu").module
        drawn = dataset(HELD_OUT[: count + 64])
        pictures = torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(drawn.labels)
        with torch.no_grad():
            told = self.module(pictures).argmax(1)
        kept: list[int] = (told == labels).nonzero()[:count, 0].tolist()  # pyright: ignore[reportUnknownMemberType]
        self.x = pictures[kept].contiguous(memory_format=torch.channels_last)
        self.labels = labels[kept]
        self.files = [_png(drawn.images[index]) for index in kept]

    def foolbox(self, attack: Any, epsilon: float | None) -> Found:
        """What an attack of foolbox finds."""
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
        model = foolbox.PyTorchModel(self.module, bounds=(0, 1))
        _, found, success = attack(model, self.x, criterion=self.labels, epsilons=epsilon)
        return found, success

    def torchattacks(self, name: str, **given: Any) -> Found:
        """What an attack of torchattacks finds."""
        attack = getattr(torchattacks, name)(self.module, seed=0, **given)
        found = attack(self.x, self.labels)
        with torch.no_grad():
            return found, self.module(found).argmax(1) != self.labels


def _linf(name: str, **given: Any) -> Theirs:
    return lambda bench: bench.foolbox(getattr(foolbox.attacks, name)(**given), EPSILON)


def _nearest(name: str, **given: Any) -> Theirs:
    return lambda bench: bench.foolbox(getattr(foolbox.attacks, name)(**given), None)


def _torchattacks(name: str, **given: Any) -> Theirs:
    return lambda bench: bench.torchattacks(name, eps=EPSILON, **given)


def cases(queries: int) -> Mapping[str, Case]:
    """Every attack that others have too, as both have it."""
    every = {"stop_at_success": False}
    pgd = methods.PGD(epsilon=EPSILON, steps=40, relative_step_size=0.01 / 0.3)
    return {
        "FGSM": Case(methods.FGSM(epsilon=EPSILON), "foolbox", _linf("LinfFastGradientAttack"), {}),
        "PGD-40, every step": Case(pgd, "foolbox", _linf("LinfPGD", steps=40), every),
        "PGD-40": Case(pgd, "foolbox", _linf("LinfPGD", steps=40), {}),
        "APGD-CE, 20 steps": Case(
            methods.APGD(epsilon=EPSILON, steps=20),
            "torchattacks",
            _torchattacks("APGD", steps=20),
            {},
        ),
        f"Square, {queries} queries": Case(
            methods.Square(epsilon=EPSILON, queries=queries),
            "torchattacks",
            _torchattacks("Square", n_queries=queries),
            {},
        ),
        "DeepFool": Case(
            methods.DeepFool(steps=50), "foolbox", _nearest("L2DeepFoolAttack", steps=50), {}
        ),
        "Carlini-Wagner, 5 x 200": Case(
            methods.CarliniWagner(search_steps=5, steps=200, learning_rate=0.01, initial_c=1),
            "foolbox",
            _nearest("L2CarliniWagnerAttack", binary_search_steps=5, steps=200, initial_const=1),
            {},
        ),
        "L-BFGS": Case(methods.LBFGS(), "", None, {}),
    }


def measure(client: Client, bench: Bench, name: str, case: Case) -> Row:
    """Both sides, one after the other."""
    started = time.perf_counter()
    verdicts: list[AttackVerdict] = []
    ask: Any = client.attack
    for start in range(0, len(bench.files), BATCH):
        part = slice(start, start + BATCH)
        verdicts += ask(
            bench.files[part],
            case.ours,
            labels=bench.labels[part].tolist(),
            network=bench.name,
            **case.options,
        )
    seconds = time.perf_counter() - started
    is_ours = torch.tensor([verdict.status == "succeeded" for verdict in verdicts])
    ours = torch.tensor([verdict.distance.l2 for verdict in verdicts])
    fooled_theirs = median_theirs = seconds_theirs = None
    if case.theirs:
        started = time.perf_counter()
        found, success = case.theirs(bench)
        seconds_theirs = time.perf_counter() - started
        fooled_theirs = int(success.sum())
        median_theirs = _median((found - bench.x).square().sum((1, 2, 3)).sqrt(), success)
    return Row(
        bench.name,
        name,
        len(verdicts),
        case.library,
        int(is_ours.sum()),
        fooled_theirs,
        _median(ours, is_ours),
        median_theirs,
        seconds,
        seconds_theirs,
    )


def _median(distances: Tensor, success: Tensor) -> float:
    return float(distances.masked_fill(~success, math.inf).median())


def _png(picture: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(out, "PNG")
    return out.getvalue()


def run(json_file: Path | None, count: int, wanted: Sequence[str], queries: int) -> None:
    """Every case on every network."""
    rows: list[Row] = []
    chosen = {
        name: case
        for name, case in cases(queries).items()
        if not wanted or any(word.lower() in name.lower() for word in wanted)
    }
    with server("embedded", None) as address, Client(address.server, timeout=7200) as client:
        for network in NETWORKS:
            bench = Bench(network, count)
            measure(client, Bench(network, 2), "first", next(iter(chosen.values())))
            for name, case in chosen.items():
                rows.append(measure(client, bench, name, case))
                Console().print(rows[-1])
    show(rows, json_file)


def show(rows: Sequence[Row], json_file: Path | None) -> None:
    """Prints the table, and writes it where asked."""
    threads = torch.get_num_threads()
    table = Table(title=f"Attacks (torch {torch.__version__}, {threads} threads)")
    heads = (
        "network",
        "attack",
        "fooled",
        "theirs",
        "median L2",
        "theirs",
        "s",
        "theirs",
        "faster",
    )
    for head in heads:
        table.add_column(head)
    for row in rows:
        ratio = row.seconds_theirs / row.seconds if row.seconds_theirs else None
        numbers = (row.median, row.median_theirs, row.seconds, row.seconds_theirs, ratio)
        table.add_row(
            row.network,
            f"{row.attack} ({row.library})" if row.library else row.attack,
            f"{row.fooled}/{row.pictures}",
            "" if row.fooled_theirs is None else str(row.fooled_theirs),
            *("" if number is None else f"{number:.3f}" for number in numbers),
        )
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=1))

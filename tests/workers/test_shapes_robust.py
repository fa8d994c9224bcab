"""The network `shapes-robust`: how it is trained, and that it is harder to fool than `shapes`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from convlens.v1.attack_methods_pb2 import PGD
from convlens.workers.attacks import Aim, Task
from convlens.workers.attacks.budget import Linf
from convlens.workers.catalog import load_network
from convlens.workers.config import Config, NetworkEntry
from convlens.workers.shapes import train_robust
from convlens.workers.shapes.dataset import HELD_OUT, Pictures, dataset
from convlens.workers.shapes.network import (
    LABELS,
    ROBUST,
    WEIGHTS,
    Shapes,
    load,
    pixels_of,
    standardised,
)
from convlens.workers.shapes.train import accuracy, tensors, train
from convlens.workers.shapes.train_robust import (
    ATTACKED,
    EPSILON,
    REACH,
    STEPS,
    accuracy_under,
    adversarial,
)

FRESH = range(4_500_000_000, 4_500_000_100)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return json.loads(ROBUST.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def few() -> Pictures:
    return dataset(FRESH[:8])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: two that wait for each other are slow on a machine that is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pgd(steps: int, epsilon: float = EPSILON) -> PGD:
    """As the script measures, random start included."""
    return PGD(epsilon=epsilon, steps=steps, relative_step_size=REACH / steps)


def mean_loss(network: Shapes, pixels: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return F.cross_entropy(network(standardised(pixels)), labels).item()


def test_what_is_trained_on_lies_within_the_budget_and_is_told_worse(few: Pictures) -> None:
    images, labels = tensors(few)
    network, pixels = load(), pixels_of(images)
    torch.manual_seed(0)
    found = adversarial(network, pixels, labels, EPSILON)
    assert 0.9 * EPSILON < (found - pixels).abs().max() <= EPSILON * (1 + 1e-5)
    assert found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert all(each.grad is None for each in network.parameters())
    noise = pixels + EPSILON * torch.randn_like(pixels).sign()
    assert mean_loss(network, noise.clamp(0, 1), labels) < mean_loss(network, found, labels) / 10


def test_it_goes_as_far_up_as_the_attack_that_is_served(few: Pictures) -> None:
    images, labels = tensors(few)
    network, pixels = load(), pixels_of(images)
    torch.manual_seed(0)
    ours = mean_loss(network, adversarial(network, pixels, labels, EPSILON), labels)
    served = mean_loss(network, climbed(network, pixels, labels), labels)
    assert ours == pytest.approx(served, rel=0.1)


def climbed(network: Shapes, pixels: Tensor, labels: Tensor) -> Tensor:
    """The last pictures of PGD, with the budget of the attack that is served."""
    found: list[Tensor] = []
    for x, label in zip(pixels, labels, strict=True):
        budget = Linf(Task(x, Aim(int(label)), seed=0), EPSILON)
        now = budget.random(0, "pgd", 0)
        for _ in range(STEPS):
            now = now.requires_grad_()
            loss = F.cross_entropy(network(standardised(now[None])), label[None])
            [slope] = torch.autograd.grad(loss, now)
            way = budget.direction(slope)
            now = budget.project(now.detach() + REACH / STEPS * EPSILON * way)
        found.append(now)
    return torch.stack(found)


def test_the_budget_grows_in_the_beginning(few: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def noted(network: Shapes, pixels: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        seen.append(epsilon)
        return pixels

    monkeypatch.setattr(train_robust, "adversarial", noted)
    train(repeat(few), 10, start=load(), rate=1e-5, loss=train_robust.robust_loss)
    assert seen[0] == pytest.approx(EPSILON / 2)
    assert seen[1:] == [EPSILON] * 9


def test_a_short_training_makes_it_harder_to_fool(few: Pictures) -> None:
    images, labels = tensors(few)
    pixels = pixels_of(images)
    before, after = load(), load()
    train(repeat(few), 12, start=after, rate=1e-3, loss=train_robust.robust_loss)
    torch.manual_seed(0)
    was, now = (
        mean_loss(each, adversarial(each, pixels, labels, EPSILON), labels)
        for each in (before, after.eval())
    )
    assert now < was / 2


def test_the_script_repeats_itself_and_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = range(HELD_OUT.start, HELD_OUT.start + 5)
    monkeypatch.setattr(train_robust, "HELD_OUT", held_out)
    monkeypatch.setattr(train_robust, "BATCH", 8)
    monkeypatch.setattr(train_robust, "ATTACKED", 2)
    monkeypatch.setattr(train_robust, "MEASURED_STEPS", 2)
    for out in ("one", "again"):
        given = ["--out", str(tmp_path / out), "--visits", "20", "--processes", "1"]
        train_robust.main([*given, "--seed", "3"])
    assert '"4/255": ' in capsys.readouterr().out
    files = [tmp_path / out / "shapes-robust.safetensors" for out in ("one", "again")]
    one, again = (load(file) for file in files)
    pairs = zip(one.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    written = json.loads(files[0].with_suffix(".json").read_text())
    assert written["visits"] == 16 and written["seed"] == 3 and written["batch"] == 8
    assert written["peak_rate"] == train_robust.PEAK_RATE
    found = written["held_out"]
    assert found["pictures"] == 5 and found["attacked"] == 2 and found["steps"] == 2
    assert found["top1"] == accuracy(one, held_out)
    again_under = accuracy_under(files[0], held_out[:2], pgd(2))
    assert found["top1_under_attack"]["shapes-robust"]["4/255"] == again_under


def test_shipped_weights_are_small_and_say_where_they_come_from(figures: dict[str, Any]) -> None:
    assert ROBUST.stat().st_size < 1_000_000
    with safe_open(ROBUST, framework="pt") as file:
        facts = file.metadata()
    assert facts["classes"].split(",") == list(LABELS)
    assert int(facts["visits"]) == figures["visits"] == train_robust.VISITS
    assert int(facts["seed"]) == figures["seed"] == train_robust.SEED
    assert figures["held_out"]["first_seed"] == HELD_OUT.start
    assert figures["held_out"]["pictures"] == len(HELD_OUT)
    assert figures["held_out"]["attacked"] == ATTACKED
    assert figures["held_out"]["steps"] == train_robust.MEASURED_STEPS


def test_the_figures_of_the_shipped_weights_are_good(figures: dict[str, Any]) -> None:
    found = figures["held_out"]
    under = found["top1_under_attack"]
    ours, plain = under["shapes-robust"], under["shapes"]
    assert found["top1"] >= 0.97
    assert ours["4/255"] >= 0.9 and ours["4/255"] >= plain["4/255"] + 0.3
    assert ours["8/255"] >= plain["8/255"] + 0.7


def test_fresh_pictures_are_told_right() -> None:
    assert accuracy(load(ROBUST), FRESH) >= 0.97


@pytest.mark.parametrize(
    ("budget", "gap"), [pytest.param("4/255", 0.1, marks=pytest.mark.slow), ("8/255", 0.4)]
)
def test_it_is_harder_to_fool_than_shapes(figures: dict[str, Any], budget: str, gap: float) -> None:
    attack = pgd(10, train_robust.BUDGETS[budget])
    ours, plain = (accuracy_under(each, FRESH[:32], attack) for each in (ROBUST, WEIGHTS))
    assert ours >= plain + gap
    for found, name in ((ours, "shapes-robust"), (plain, "shapes")):
        # 32 pictures, and fewer steps.
        assert found == pytest.approx(
            figures["held_out"]["top1_under_attack"][name][budget], abs=0.2
        )


@pytest.mark.slow
@pytest.mark.parametrize("budget", train_robust.BUDGETS)
@pytest.mark.parametrize(("name", "file"), [("shapes-robust", ROBUST), ("shapes", WEIGHTS)])
def test_it_stands_up_to_as_much_as_the_figures_say(
    figures: dict[str, Any], name: str, file: Path, budget: str
) -> None:
    attack = pgd(train_robust.MEASURED_STEPS, train_robust.BUDGETS[budget])
    found = accuracy_under(file, HELD_OUT[:ATTACKED], attack)
    stated = figures["held_out"]["top1_under_attack"][name][budget]
    # One picture or two may fall the other way on another machine.
    assert found == pytest.approx(stated, abs=0.01)


@pytest.mark.slow
def test_the_script_gets_far_in_a_fifth_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_robust, "ATTACKED", 50)
    given = ["--out", str(tmp_path), "--visits", "3200", "--processes", "1", "--seed", "5"]
    train_robust.main(given)
    found = json.loads((tmp_path / "shapes-robust.json").read_text())["held_out"]
    assert found["top1"] >= 0.97
    assert found["top1_under_attack"]["shapes-robust"]["4/255"] >= 0.85


@pytest.mark.parametrize(
    "entry",
    [
        NetworkEntry(name="shapes-robust"),
        NetworkEntry(name="hard", builder="bundled:shapes-robust"),
    ],
)
def test_it_is_served_with_its_figures(entry: NetworkEntry, figures: dict[str, Any]) -> None:
    served = load_network(entry, "cpu")
    found = figures["held_out"]
    assert served.labels == list(LABELS)
    under = found["top1_under_attack"]["shapes-robust"]
    assert {line.dataset: line.top1 for line in served.facts.accuracies} == {
        "2000 drawn pictures, seeds from 4000000000": found["top1"],
        "500 drawn pictures, seeds from 4000000000, under PGD (40 steps, epsilon 4/255)": (
            under["4/255"]
        ),
        "500 drawn pictures, seeds from 4000000000, under PGD (40 steps, epsilon 8/255)": (
            under["8/255"]
        ),
    }
    random = load_network(entry.model_copy(update={"weights": "random"}), "cpu")
    assert not random.facts.accuracies and random.facts.digest != served.facts.digest


def test_the_page_gives_these_figures(figures: dict[str, Any]) -> None:
    found = figures["held_out"]
    under = found["top1_under_attack"]
    plain = json.loads(WEIGHTS.with_name("training.json").read_text())["held_out"]["top1"]
    page = (Path(__file__).parents[2] / "docs/networks.md").read_text(encoding="utf-8")
    for name, clean in (("shapes", plain), ("shapes-robust", found["top1"])):
        first, *others = (100 * each for each in (clean, *under[name].values()))
        cells = " | ".join([f"{first:.2f} %", *(f"{share:.1f} %" for share in others)])
        assert f"| `{name}` | {cells} |" in page
    for budget in train_robust.BUDGETS:
        apart = under["shapes-robust"][budget] - under["shapes"][budget]
        assert f"{100 * apart:.1f} points apart" in page


def test_without_a_file_it_is_not_served() -> None:
    assert "shapes-robust" not in [entry.name for entry in Config().networks]

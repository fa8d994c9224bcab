"""What syntheses reach on the bundled networks: tables and pictures, of a server of its own.

uv run python docs/synthesis_results.py [SECTION]...

It takes half an hour on two cores, so `make_pictures.py` leaves it out. Of sections that are not
named, where some are, the page keeps what it has.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import torch
from figures import FAINT, INK, column, grid, row, save, tile, words
from matplotlib import pyplot
from PIL import Image
from synthesis_pictures import NATURAL, sure, under

from convlens.client import ClassScore, Client, SynthesizedPicture
from convlens.client.cli._embedded import EmbeddedServer, server_command
from convlens.client.methods import (
    ClassModel,
    FoolingCppn,
    FoolingDirect,
    FoolingGradient,
    Inversion,
)
from convlens.workers.shapes.dataset import HELD_OUT
from convlens.workers.shapes.draw import CLASSES, draw

HERE = Path(__file__).parent
PAGE, PICTURES = HERE / "synthesis_results.md", HERE / "pictures" / "synthesis"
NETWORKS = ("shapes", "shapes-robust")
# Callers at a time; their steps share passes.
CALLERS = 8
TIMEOUT = 7200.0
MODELED = 0.999
RECIPES: Mapping[str, ClassModel] = {"by default": ClassModel(), "natural": NATURAL}
INVERTED = [draw(seed).image for seed in HELD_OUT[:20]]
# Every pooling, and the scores.
LAYERS = (
    "features.2",
    "features.5",
    "features.10",
    "features.15",
    "features.18",
    "classifier.5",
)
SHOWN, SIDE, GAP = 4, 128, 15
WAYS: Mapping[str, Any] = {
    "gradient": FoolingGradient(),
    "CPPN": FoolingCppn(),
    "direct": FoolingDirect(),
}
HEAD = f"""\
# Results of syntheses

What the methods of [Synthesis](synthesis.md) reach on the bundled networks with their defaults and
seed 0. Written by `docs/synthesis_results.py` (torch {torch.__version__}, two CPU cores)."""


def each_made(
    client: Client, method: Any, given: Iterable[Mapping[str, Any]]
) -> list[SynthesizedPicture]:
    """The pictures of some calls, of which some are under way at a time."""
    with ThreadPoolExecutor(CALLERS) as executor:
        ends = [
            executor.submit(client.synthesize_to_end, method, timeout=TIMEOUT, **each)
            for each in given
        ]
    return [picture for end in ends for picture in end.result().pictures]


def table(heads: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def class_models(client: Client) -> Iterator[str]:
    """How sure the network is of its class models, and whether its robust sister sees the same."""
    rows: list[list[object]] = [[label] for label in CLASSES]
    ends: list[str] = []
    for name, method in RECIPES.items():
        pictures = each_made(client, method, ({"target": label} for label in CLASSES))
        files = [picture.png for picture in pictures]
        answers = [answer_of(picture) for picture in pictures]
        others = [each.top for each in client.classify(files, network="shapes-robust")]
        for line, label, answer, other in zip(rows, CLASSES, answers, others, strict=True):
            line += [chance(label, answer), chance(label, other)]
        reached = sum(
            answer.label == label and (answer.probability or 0) >= MODELED
            for label, answer in zip(CLASSES, answers, strict=True)
        )
        agreed = sum(other.label == label for label, other in zip(CLASSES, others, strict=True))
        ends.append(f"{name}, {reached} reach 99.9 %, and shapes-robust agrees on {agreed}")
    yield "## Class models"
    yield table(["class", *(f"{net}, {name}" for name in RECIPES for net in NETWORKS)], rows)
    yield (
        "What each network answers to the PNG that was made for `shapes`; in italics where it is "
        f"another class. Of {len(CLASSES)}: {'; '.join(ends)}."
    )


def answer_of(picture: SynthesizedPicture) -> ClassScore:
    """What the network says of the PNG."""
    assert picture.rounded_prediction
    return picture.rounded_prediction


def chance(label: str, answer: ClassScore) -> str:
    """A probability, and the class where it is another one."""
    probability = f"{answer.probability:.2%}"
    return probability if answer.label == label else f"*{answer.label} {probability}*"


def inversion(client: Client) -> Iterator[str]:
    """How near codes and pictures come, layer by layer."""
    answers = [answer.top.label for answer in client.classify(INVERTED)]
    given = [{"image": image} for image in INVERTED]
    found = {layer: each_made(client, Inversion(layer=layer), given) for layer in LAYERS}
    rows: list[list[object]] = []
    for layer, pictures in found.items():
        kept = sum(
            answer_of(picture).label == answer
            for picture, answer in zip(pictures, answers, strict=True)
        )
        distances = spread((each.code_distance for each in pictures), ".3f")
        ratios = spread((each.psnr for each in pictures), ".1f")
        rows.append([layer, distances, ratios, f"{kept} of {len(pictures)}"])
    yield "## Inversion"
    yield table(["layer", "code distance", "PSNR in dB", "class kept"], rows)
    yield (
        f"Of {len(INVERTED)} pictures that no network was trained on: medians, and in brackets the "
        "quartiles. The code distance is the squared distance of the codes relative to the given "
        "one."
    )
    curve(found, PICTURES / "inversion.png")
    yield "![Code distance and PSNR by depth](pictures/synthesis/inversion.png)"
    save(reconstructions(found), PICTURES / "reconstructions.png")
    yield "![What is left of four pictures](pictures/synthesis/reconstructions.png)"


def spread(values: Iterable[float | None], form: str) -> str:
    """The median and the quartiles."""
    low, middle, high = quartiles(values)
    return f"{middle:{form}} ({low:{form}} … {high:{form}})"


def quartiles(values: Iterable[float | None]) -> list[float]:
    """Those of the numbers that are there."""
    known = [value for value in values if value is not None]
    return statistics.quantiles(known, method="inclusive")


def curve(found: Mapping[str, Sequence[SynthesizedPicture]], path: Path) -> None:
    """The medians and quartiles over the depth."""
    matplotlib.use("agg")
    plots: Any = pyplot
    figure, axes = plots.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    sides = (("PSNR in dB", "psnr", "#2563eb"), ("code distance", "code_distance", "#c2410c"))
    for axis, (title, name, color) in zip(axes, sides, strict=True):
        each = [quartiles(getattr(one, name) for one in found[layer]) for layer in found]
        lows, middles, highs = zip(*each, strict=True)
        axis.fill_between(range(len(found)), lows, highs, color=color, alpha=0.15, linewidth=0)
        axis.plot(middles, color=color, marker="o", markersize=4)
        axis.set_xticks(range(len(found)), found, rotation=40, ha="right", fontsize=8)
        axis.set_title(title, loc="left", fontsize=10, color=INK)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def reconstructions(found: Mapping[str, Sequence[SynthesizedPicture]]) -> Image.Image:
    """Some pictures, and what is left of them in the codes of some layers."""
    rows: list[Image.Image] = []
    for number, picture in enumerate(INVERTED[:SHOWN]):
        given = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        tiles = [under(given, "the picture")]
        for layer in LAYERS:
            made = found[layer][number]
            tiles.append(under(tile(made.png, SIDE), layer, f"PSNR {made.psnr:.1f} dB", sure(made)))
        rows.append(row(tiles, GAP, 0))
    return column(rows, GAP)


def fooling(client: Client) -> Iterator[str]:
    """How sure the network becomes of pictures that show nothing."""
    found = {name: each_made(client, way, [{"target": CLASSES}]) for name, way in WAYS.items()}
    rows = [
        [label, *(f"{target_of(each).probability:.2%} ({each.steps})" for each in pictures)]
        for label, pictures in zip(CLASSES, zip(*found.values(), strict=True), strict=True)
    ]
    ends = [f"{name} {sum(bool(each.confident) for each in found[name])}" for name in found]
    yield "## Fooling images"
    yield table(["class", *found], rows)
    yield (
        "The probability of the class, and in brackets the step or generation of that picture. Of "
        f"{len(CLASSES)} classes above 99 %: {', '.join(ends)}."
    )
    save(fooled(found), PICTURES / "fooling.png")
    yield "![Fooling images of every class](pictures/synthesis/fooling.png)"


def target_of(picture: SynthesizedPicture) -> ClassScore:
    """What the network says of the class that it was made for."""
    assert picture.target
    return picture.target


def fooled(found: Mapping[str, Sequence[SynthesizedPicture]]) -> Image.Image:
    """All of them."""
    rows: list[Image.Image] = []
    for name, pictures in found.items():
        tiles = [
            under(tile(each.png, SIDE), target_of(each).label, sure(each)) for each in pictures
        ]
        rows.append(column([words(name, 15, FAINT), grid(tiles, len(CLASSES) // 2, GAP)], 8))
    return column(rows, 18)


SECTIONS = {"class_models": class_models, "inversion": inversion, "fooling": fooling}


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(SECTIONS)
    kept = (
        dict(zip(SECTIONS, PAGE.read_text().split("\n## ")[1:], strict=False))
        if PAGE.exists()
        else {}
    )
    parts = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "networks.yaml")
        file.write_text("networks:\n" + "".join(f"  - name: {name}\n" for name in NETWORKS))
        command = [*server_command(), "--networks", str(file)]
        with EmbeddedServer(command) as server, Client(server.address, timeout=TIMEOUT) as client:
            for name, section in SECTIONS.items():
                if name not in wanted:
                    parts.append("## " + kept[name].strip())
                    continue
                for part in section(client):
                    print(part, end="\n\n", flush=True)
                    parts.append(part)
    PAGE.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

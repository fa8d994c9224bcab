"""How surely each method finds what is known to be there: objects, and a planted marker."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import server
from convlens.client import Client, QualityScore
from convlens.client.methods import (
    Deconvnet,
    GradCam,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    Localization,
    LocalizationMethod,
    ModelRandomization,
    Occlusion,
    PointingGame,
    RegionOverlap,
    Saliency,
    SmoothGrad,
)
from convlens.v1.explanation_pb2 import MAP_SIGN_NON_NEGATIVE, MapGeometry
from convlens.v1.geometry_pb2 import Box
from convlens.v1.quality_pb2 import TrueRegion
from convlens.v1.tensor_pb2 import DATA_TYPE_UINT8, Tensor
from convlens.workers.images import Pixels
from convlens.workers.localization import localize, overlap
from convlens.workers.shapes.dataset import HELD_OUT, dataset
from convlens.workers.shapes.shortcut import marker_pictures

PICTURES, TOGETHER = 500, 20
SIDE = 128
NETWORKS = "networks: [{name: shapes}, {name: shapes-shortcut}, {name: shapes-robust}]\n"
# The last convolution of all networks, whose strongest map deconvnet starts from.
LAST = "features.16"
# Their last layer with weights.
SCORES = "classifier.5"
METHODS: Mapping[str, Any] = {
    "saliency": Saliency(),
    "input_x_gradient": InputXGradient(),
    "smooth_grad": SmoothGrad(samples=20),
    "integrated_gradients": IntegratedGradients(steps=16, max_steps=48),
    "guided_backprop": GuidedBackprop(),
    "deconvnet": Deconvnet(layer=LAST, strongest=1),
    "occlusion": Occlusion(window=16, stride=8),
    "grad_cam": GradCam(),
    "guided_grad_cam": GuidedGradCam(),
}
CENTRE = "(the centre)"


@dataclass(frozen=True)
class Truth:
    """Pictures, and where in each is what the network's answer rests on."""

    network: str
    what: str
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """How much of a picture that is: what pointing anywhere would find."""
        return float(self.masks.mean())


def truths(count: int) -> list[Truth]:
    """The objects of `shapes` and of `shapes-robust`, and the markers of `shapes-shortcut` on
    objects of other classes."""
    objects = dataset(HELD_OUT[:count])
    marked = marker_pictures(count)
    return [
        Truth("shapes", "object", objects.images, objects.masks),
        Truth("shapes-shortcut", "marker", marked.images, marked.masks),
        Truth("shapes-robust", "object", objects.images, objects.masks),
    ]


def run(json_file: Path | None, count: int = PICTURES) -> None:
    """Asks a real server for every map of every picture, judged by the truth."""
    found: dict[str, Any] = {}
    with server("embedded", NETWORKS) as address, Client(address.server, timeout=600) as client:
        for truth in truths(count):
            scores = {CENTRE: centre(truth)} | judged(client, truth)
            found[truth.network] = {"truth": truth.what, "share": truth.share, "methods": scores}
            show(truth, scores)
    if json_file:
        json_file.write_text(json.dumps({"pictures": count} | found, indent=1) + "\n")


def judged(client: Client, truth: Truth) -> dict[str, dict[str, float]]:
    """The mean scores of each method."""
    measures: list[Any] = [PointingGame(tolerance=0), RegionOverlap()]
    anew: list[Any] = [ModelRandomization(), ModelRandomization(layer=SCORES)]
    every: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    random: dict[str, list[list[float]]] = {name: [] for name in METHODS}
    starts = range(0, len(truth.images), TOGETHER)
    for start in track(starts, description=f"{truth.network}, {truth.what}", transient=True):
        part = slice(start, start + TOGETHER)
        # Redrawn networks cost as much again, and tell the same for fewer pictures.
        asked = [*measures, *anew] if start < len(truth.images) // 5 else measures
        answers = client.explain(
            list(truth.images[part]),
            list(METHODS.values()),
            network=truth.network,
            measures=asked,
            localization=Localization(method=LocalizationMethod.LOCALIZATION_METHOD_THRESHOLD),
            true_regions=[region(mask) for mask in truth.masks[part]],
        )
        for answer in answers:
            for name, attribution in zip(METHODS, answer.attributions, strict=True):
                values = [score_of(score) for score in attribution.scores]
                every[name].append(values[:2])
                if len(values) > 2:
                    random[name].append(values[2:])
    return {
        name: dict(
            zip(
                ("pointing", "overlap", "all_redrawn", "top_redrawn"),
                (*np.mean(every[name], axis=0), *np.mean(random[name], axis=0)),
                strict=True,
            )
        )
        for name in METHODS
    }


def score_of(score: QualityScore) -> float:
    """The number, or the error."""
    if score.score is None:
        raise score.error or AssertionError("a score has a number or an error")
    return score.score


def region(mask: NDArray[np.bool_]) -> TrueRegion:
    """Where it truly is, as the contract says it."""
    data = mask.astype(np.uint8).tobytes()
    return TrueRegion(mask=Tensor(dtype=DATA_TYPE_UINT8, shape=mask.shape, data=data))


def centre(truth: Truth) -> dict[str, float]:
    """What a map that is strongest in the middle of every picture would be worth."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    values = np.exp(-(rows**2 + columns**2) / (2 * (SIDE / 6) ** 2))
    crop = Box(right=SIDE, bottom=SIDE)
    geometry = MapGeometry(crop=crop, original_height=SIDE, original_width=SIDE)
    threshold = LocalizationMethod.LOCALIZATION_METHOD_THRESHOLD
    p = Localization(foreground_quantile=0.95, largest_component=True, method=threshold)
    blank = Pixels(torch.zeros(3, SIDE, SIDE))
    found = localize(values, MAP_SIGN_NON_NEGATIVE, blank, geometry, p).region
    return {
        "pointing": float(truth.masks[:, SIDE // 2, SIDE // 2].mean()),
        "overlap": float(np.mean([overlap(found, region(mask)) for mask in truth.masks])),
    }


HEADS: Sequence[tuple[str, str, str]] = (
    ("pointing", "pointing game", ".1%"),
    ("overlap", "IoU of the strongest 5 %", ".3f"),
    ("all_redrawn", "correlation, all weights redrawn", ".2f"),
    ("top_redrawn", "correlation, last layer redrawn", ".2f"),
)


def show(truth: Truth, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Prints the table."""
    title = (
        f"{truth.network}: does a map point at the {truth.what} ({truth.share:.1%} of a picture)?"
    )
    table = Table(title=f"{title}\n{len(truth.images)} pictures, torch {torch.__version__}")
    table.add_column("method")
    for _, head, _ in HEADS:
        table.add_column(head, justify="right")
    for name, values in scores.items():
        cells = [format(values[key], form) if key in values else "" for key, _, form in HEADS]
        table.add_row(name, *cells)
    Console(width=110).print(table)

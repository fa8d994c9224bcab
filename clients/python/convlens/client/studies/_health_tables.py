"""The tables of a health study."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pandas import DataFrame, concat

from convlens.client.studies import _filters
from convlens.client.studies._activations import EDGES, LayerHealth
from convlens.client.studies._filters import FilterHealth
from convlens.client.studies._study import cell

if TYPE_CHECKING:
    from convlens.client.studies._health import HealthStudy


def tables_of(study: "HealthStudy") -> Mapping[str, DataFrame]:
    """All numbers of the study, by the title of their table."""
    made = {"Layers": _layers(study)}
    if study.filters is not None:
        made["First layer"] = first_layer(study.filters)
        made["Filters"] = _filters_one_by_one(study.filters)
    if study.gradients:
        made["Gradient check"] = DataFrame(
            [
                {
                    "picture": cell(check.picture),
                    "class": check.target,
                    "direction": check.direction,
                    "step": check.step,
                    "gradient": check.analytic,
                    "difference": check.numeric,
                    "relative error": check.relative_error,
                }
                for check in study.gradients
            ]
        )
    return {**made, "Units": _units(study), "Histograms": _histograms(study)}


def first_layer(filters: FilterHealth) -> DataFrame:
    """What the verdict goes by: each measure, what white noise has, and the limit."""
    nan = float("nan")
    none = np.isnan(filters.contrast).all()
    contrast = nan if none else float(np.nanmean(filters.contrast))
    rows = [
        ("smooth share of energy", filters.smooth, 0.0, f"at least {_filters.SMOOTH:g}"),
        ("share with a twin", filters.twins, 0.0, f"at most {_filters.CORRELATED:g}"),
        ("spread over the basis", filters.spread, filters.noise_spread, ""),
        ("deviations below noise", filters.told_apart, 0.0, f"at least {_filters.TOLD_APART:g}"),
        ("mean contrast", contrast, 1.0, f"at least {_filters.FLAT:g}"),
        ("largest |cosine|", filters.closest, nan, ""),
        ("silent filters", float(len(filters.silent)), 0.0, ""),
    ]
    return DataFrame(rows, columns=["measure", "here", "white noise", "fine"])


def _layers(study: "HealthStudy") -> DataFrame:
    return DataFrame(
        [
            {
                "layer": layer.layer,
                "units": layer.units,
                "dead": len(layer.dead),
                "always on": len(layer.always_on),
                "broken": len(layer.broken),
                "density": layer.density,
                "sparsity": 1 - layer.density,
                "least dense picture": layer.densities.min(),
                "densest picture": layer.densities.max(),
                "mean": layer.mean.mean(),
                "maximum": layer.maximum.max(),
            }
            for layer in study.layers
        ]
    )


def _units(study: "HealthStudy") -> DataFrame:
    made = [
        DataFrame(
            {
                "layer": layer.layer,
                "unit": np.arange(layer.units),
                "maximum": layer.maximum,
                "mean": layer.mean,
                "places on": layer.places_on,
                "pictures on": layer.pictures_on,
                "state": _states(layer),
            }
        )
        for layer in study.layers
    ]
    return concat(made, ignore_index=True)


def _states(layer: LayerHealth) -> list[str]:
    states = [""] * layer.units
    for word, units in (
        ("dead", layer.dead),
        ("always on", layer.always_on),
        ("broken", layer.broken),
    ):
        for unit in units:
            states[unit] = word
    return states


def _histograms(study: "HealthStudy") -> DataFrame:
    """Bins with something in them; what is 0 has both edges 0."""
    rows: list[tuple[str, float, float, int]] = []
    for layer in study.layers:
        rows.append((layer.layer, 0.0, 0.0, layer.zeros))
        there = np.flatnonzero(layer.histogram)
        rows += [
            (layer.layer, float(EDGES[at]), float(EDGES[at + 1]), int(layer.histogram[at]))
            for at in there
        ]
    return DataFrame(rows, columns=["layer", "from", "to", "count"])


def _filters_one_by_one(filters: FilterHealth) -> DataFrame:
    count = len(filters.weights)
    apart = np.where(np.eye(count, dtype=bool), -np.inf, filters.cosines)
    closest = apart.argmax(1)
    return DataFrame(
        {
            "filter": np.arange(count),
            "length": np.sqrt((filters.weights**2).sum((1, 2, 3))),
            "roughness": filters.roughness,
            "contrast": filters.contrast,
            "most like": closest,
            "cosine": apart[np.arange(count), closest],
        }
    )

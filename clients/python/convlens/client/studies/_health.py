"""Whether a network is in good health: its units, its first filters and its gradients."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from convlens.client._client import Client
from convlens.client._errors import FailedPrecondition, InvalidRequest
from convlens.client._features import LayerSelection
from convlens.client._picture_files import Name, Names
from convlens.client._results import Network
from convlens.client._text import percent, printable
from convlens.client.studies._activations import (
    LayerHealth,
    asking_reduced,
    chosen_layers,
    layers_of,
)
from convlens.client.studies._filters import FilterHealth, first_filters
from convlens.client.studies._gradients import (
    RANDOM_TOLERANCE,
    TOLERANCE,
    GradientCheck,
    checks_of,
    errors_of,
    is_right,
)
from convlens.client.studies._study import Facts, Study
from convlens.client.studies._walk import Progress, gathered, pictures_of, plan_of, unheard

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image

# Pictures whose gradient is checked.
CHECKED = 3


@dataclass(frozen=True, slots=True, eq=False)
class HealthStudy(Study):
    """Dead and always-on units and sparsity per layer, the first filters, and the gradients.

    `filters` is None where there are none to judge, and `gradients` is empty where they cannot be
    checked; `notes` say why.
    """

    name: ClassVar[str] = "health"
    heading: ClassVar[str] = "Health: units, filters and gradients"
    facts: Facts
    layers: Sequence[LayerHealth]
    filters: FilterHealth | None
    gradients: Sequence[GradientCheck]
    notes: Sequence[str] = ()

    @property
    def gradients_are_right(self) -> bool:
        """Whether the gradients of all pictures that were checked agree with differences."""
        return all(map(is_right, self._by_picture()))

    @property
    def findings(self) -> Sequence[str]:
        """Units, filters, gradients, and what could not be looked at."""
        said = [_of_units(self.layers, self.facts.pictures), _of_density(self.layers)]
        if broken := {layer.layer: len(layer.broken) for layer in self.layers if layer.broken}:
            said.insert(0, f"{_count(broken, 'broken').capitalize()}: infinite, or no number.")
        if self.filters is not None:
            said.append(_of_filters(self.filters))
        if self.gradients:
            said.append(self._of_gradients())
        return [*said, *self.notes]

    def _of_gradients(self) -> str:
        errors = [errors_of(checks) for checks in self._by_picture()]
        along, across = (max(each) for each in zip(*errors, strict=True))
        verdict = "right" if self.gradients_are_right else "wrong, or the scores are too coarse"
        return (
            f"The gradients are {verdict}: on {len(errors)} picture{'s' if len(errors) > 1 else ''}"
            f" they differ from finite differences by at most {along:.1g} of their size along "
            f"themselves, where float32 and kinks explain {TOLERANCE:g}, and by {across:.1g} in "
            f"random directions, where they explain {RANDOM_TOLERANCE:g}."
        )

    def _by_picture(self) -> list[list[GradientCheck]]:
        pictures = dict.fromkeys(check.picture for check in self.gradients)
        return [[one for one in self.gradients if one.picture == each] for each in pictures]

    def tables(self) -> "Mapping[str, DataFrame]":
        """Layers, units, filters and gradients."""
        from convlens.client.studies._health_tables import tables_of

        return tables_of(self)

    def figures(self) -> "Mapping[str, Image]":
        """Histograms, densities and units of the layers; filters and how alike they are."""
        from convlens.client.studies import _health_charts as charts

        drawn = {
            "Share of activations that are not 0, and units": charts.units(self.layers),
            "Activations of each layer": charts.histograms(self.layers),
        }
        if self.filters is not None:
            drawn[f"Filters of {self.filters.layer}, each on its own scale"] = charts.filter_sheet(
                self.filters
            )
            drawn["How alike the filters are"] = charts.correlations(self.filters)
        return drawn


def health(
    client: Client,
    pictures: Names,
    *,
    layers: Sequence[str] | None = None,
    checked: int = CHECKED,
    network: str = "",
    state: Name | None = None,
    progress: Progress = unheard,
) -> HealthStudy:
    """Looks for dead units, noise in the first filters, and wrong gradients.

    `pictures` are files, folders and patterns; `layers` are those whose activations are looked at,
    by default all that rectify. Whole layers are sent once for each picture, and only a row of
    fixed size is kept of it on disk. The gradient is checked on the first `checked` pictures that
    can be read; 0 leaves it out. Raises NotFound where there is no such layer, InvalidRequest where
    it cannot be read or no picture has an answer.
    """
    started = time.monotonic()
    paths = pictures_of(pictures)
    if checked < 0:
        raise InvalidRequest(f"checked is {checked}; it must be at least 0.")
    served = client.network(network)
    names = chosen_layers(served, layers)
    ask = asking_reduced(client, served, names, progress)
    wanted = [LayerSelection(name, "none", "float32") for name in names]
    plan = plan_of(served, wanted, reduced="health, 1")
    with gathered(paths, plan, ask, state=state, progress=progress, what="looking") as rows:
        units = layers_of(rows, names, served)
        filters = first_filters(client, served, rows.pictures[0])
        gradients, notes = _gradients(client, served, rows.pictures[:checked], progress)
        if isinstance(filters, str):
            notes = [filters, *notes]
        facts = rows.facts(served, time.monotonic() - started)
        judged = None if isinstance(filters, str) else filters
        return HealthStudy(facts, units, judged, gradients, tuple(notes))


def _gradients(
    client: Client, served: Network, pictures: Sequence[Path], progress: Progress
) -> tuple[list[GradientCheck], list[str]]:
    """The checks of some pictures, and why there are none where the network has no gradients."""
    random = np.random.default_rng(0)
    checks: list[GradientCheck] = []
    if served.precision != "float32":
        return [], [f"Gradients are not checked: {served.precision} is too coarse for differences."]
    for done, picture in enumerate(pictures, 1):
        try:
            checks += checks_of(client, served, picture, random)
        except (FailedPrecondition, InvalidRequest) as error:
            return checks, [f"The gradient could not be checked: {error.message}"]
        progress("checking gradients", done, len(pictures))
    return checks, []


def _of_units(layers: Sequence[LayerHealth], pictures: int) -> str:
    units = sum(layer.units for layer in layers)
    dead = {layer.layer: len(layer.dead) for layer in layers if layer.dead}
    always = {layer.layer: len(layer.always_on) for layer in layers if layer.always_on}
    where = f"in {layers[0].layer}" if len(layers) == 1 else f"in {len(layers)} layers"
    on = f"any of the {pictures} pictures" if pictures > 1 else "the one picture"
    return (
        f"Of the {units} units {where} {_count(dead, 'dead')}: never above 0 on {on}. "
        f"{_count(always, 'always on').capitalize()}: above 0 everywhere."
    )


def _count(found: Mapping[str, int], state: str) -> str:
    total = sum(found.values())
    if not total:
        return f"none is {state}"
    most = max(found, key=lambda name: found[name])
    part = "" if len(found) == 1 else f"{found[most]} of them "
    return f"{total} {'is' if total == 1 else 'are'} {state} ({part}in {most})"


def _of_density(layers: Sequence[LayerHealth]) -> str:
    most = max(layers, key=lambda layer: layer.density)
    least = min(layers, key=lambda layer: layer.density)
    if most is least:
        return f"In {most.layer} {percent(most.density)} of the activations are not 0."
    return (
        f"Activations are sparsest in {least.layer}, where {percent(least.density)} are not 0, and "
        f"densest in {most.layer} with {percent(most.density)}."
    )


def _of_filters(filters: FilterHealth) -> str:
    silent = f", {len(filters.silent)} of them silent" if filters.silent else ""
    spread = "spread as white noise is"
    if filters.told_apart > 0:
        far = f"{filters.told_apart:.1f} of its standard deviations"
        spread = f"less spread than white noise by {far}"
    said = "look fine" if not filters.verdicts else f"are: {filters.verdict}"
    return (
        f"The {len(filters.weights)} filters of {printable(filters.layer)}{silent} {said}. "
        f"{percent(max(0.0, filters.smooth))} of their energy is smooth, where white noise has "
        f"none; {percent(filters.twins)} have a twin; and over frequencies and colours they are "
        f"{spread}."
    )

"""What was found of a network without its layers, in sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convlens.client._text import percent, printable

if TYPE_CHECKING:
    from convlens.client.studies._removal import RemovalStudy, Without

# What is called little, as a share of the pictures: single layers cost Zeiler & Fergus less.
LITTLE = 0.1
PAPER = "Zeiler & Fergus 2013, table 3"


def findings(study: "RemovalStudy") -> Sequence[str]:
    """The most important one first."""
    said = [_shape(study), _whole(study)]
    if not _can_be_compared(study):
        said.reverse()
    if study.single:
        said.append(_singles(study))
    said += [_group(study, group) for group in study.groups]
    zeroed = [each for each in study.single if not each.passes_on]
    if zeroed and len(zeroed) < len(study.single):
        said.append(_zeroed(study, zeroed))
    if len(study.shares) == 1:
        [name] = study.shares
        said.append(
            f"All pictures are of {printable(name)}: a network that always says so would be right. "
            "Take pictures of several classes to learn what its layers are for."
        )
    if study.left_out:
        count = len(study.left_out)
        said.append(f"{count} layer{'s' * (count > 1)} cannot be removed; a table says why.")
    return said


def _whole(study: "RemovalStudy") -> str:
    low, high = study.whole.interval
    name, share = next(iter(study.shares.items()))
    return (
        f"With all its layers the network is right about {percent(study.whole.accuracy, 1)} of "
        f"{study.whole.pictures} picture{'s' * (study.whole.pictures > 1)} ({percent(low, 1)} to "
        f"{percent(high, 1)}); always saying {printable(name)} would be right about "
        f"{percent(share, 1)}."
    )


def _singles(study: "RemovalStudy") -> str:
    worst = max(study.single, key=study.lost)
    best = min(study.single, key=study.lost)
    cheap = sum(study.lost(each) <= LITTLE for each in study.single)
    if len(study.single) == 1:
        return f"Removing {_said(worst)} costs {_points(study.lost(worst))}."
    return (
        f"Removing a single layer costs between {_points(study.lost(best))} ({_said(best)}) and "
        f"{_points(study.lost(worst))} ({_said(worst)}); {cheap} of {len(study.single)} cost at "
        f"most {_points(LITTLE)}."
    )


def _group(study: "RemovalStudy", group: "Without") -> str:
    alone = [each for each in study.single if each.title in group.how]
    words = f"Removing {_said(group)} together costs {_points(study.lost(group))}"
    if len(alone) < len(group.how):
        return f"{words}."
    *most, last = (_number(study.lost(each)) for each in alone)
    return f"{words}; one by one they cost {', '.join(most)} and {last}."


def _zeroed(study: "RemovalStudy", zeroed: Sequence["Without"]) -> str:
    """What is lost by zeros tells less, as nothing comes through where there is no way around."""
    alike = [each for each in study.single if each.passes_on]
    costs = [sum(map(study.lost, each)) / len(each) for each in (alike, zeroed)]
    return (
        f"The {len(alike)} layers whose input could go on in their place cost {_points(costs[0])} "
        f"on average, the {len(zeroed)} that were replaced by zeros {_points(costs[1])}: through a "
        "zeroed layer nothing comes, unless there is a way around it."
    )


def _passing(study: "RemovalStudy") -> tuple[list["Without"], list["Without"]]:
    """The layers and groups whose input went on in their place."""
    alike = [each for each in study.single if each.passes_on]
    return alike, [each for each in study.groups if each.passes_on]


def _can_be_compared(study: "RemovalStudy") -> bool:
    return all(_passing(study))


def _shape(study: "RemovalStudy") -> str:
    """Whether single layers cost little, and the largest group more than its layers added up."""
    alike, groups = _passing(study)
    if not _can_be_compared(study):
        return (
            f"Whether single layers cost little and many at once are a disaster, as in {PAPER}, "
            "cannot be said: that takes single layers and a group whose input can go on in their "
            "place."
        )
    cheap = [each for each in alike if study.lost(each) <= LITTLE]
    group = max(groups, key=lambda each: len(each.how))
    parts = [study.lost(each) for each in alike if each.title in group.how]
    few = 2 * len(cheap) > len(alike)
    disaster = study.lost(group) > max(LITTLE, sum(parts))
    singles = (
        f"{len(cheap)} of the {len(alike)} layers whose input can go on in their place cost at "
        f"most {_points(LITTLE)} alone"
    )
    both = f"{printable(group.title)} cost {_points(study.lost(group))} together"
    if few and disaster:
        return f"The shape of {PAPER}, shows without training again: {singles}, and {both}."
    if not few and not disaster:
        return f"The shape of {PAPER}, does not show without training again: {singles}; {both}."
    shown, other = ("first", "second") if few else ("second", "first")
    return (
        f"Of the shape of {PAPER} (single layers cost little, many at once are a disaster) only "
        f"the {shown} half shows without training again, not the {other}: {singles}; {both}."
    )


def _said(without: "Without") -> str:
    return printable(without.title)


def _points(share: float) -> str:
    """A difference of accuracies."""
    return f"{_number(share)} points"


def _number(share: float) -> str:
    text = f"{100 * share:.1f}"
    return text.removeprefix("-") if float(text) == 0 else text

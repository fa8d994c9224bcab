"""What an accuracy report found, in sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convlens.client._text import percent, printable
from convlens.client.studies._attributes import Attribute
from convlens.client.studies._shares import Share, mcnemar

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy

# Classes that are named of the hardest and of the easiest.
NAMED = 3
# Where two answers part pictures less surely than this, it may be chance.
CHANCE = 0.05


def accuracy_words(found: "Accuracy") -> list[str]:
    """Accuracy, the classes, what helped, what matters, and how sure it is."""
    said = [_whole(found), _classes(found)]
    if found.confusions:
        true, told, times = found.confusions[0]
        often = f"{times} times" if times > 1 else "once"
        said.append(
            f"Most often confused: {printable(true)} taken for {printable(told)}, {often}; "
            f"{len(found.mistakes)} of {len(found.pictures)} pictures are told wrong."
        )
    if len(found.told) > 1:
        said.append(_helped(found))
    said += _factors(found)
    return [*said, _sureness(found)]


def _whole(found: "Accuracy") -> str:
    share = list(found.top(1).values())[-1]
    pictures = f"{share.count} pictures are" if share.count > 1 else "1 picture is"
    words = f"{_of(share)} of {pictures} told right (95 % interval {_ends(share)})"
    if len(found.labels) <= 5:
        return f"{words}."
    five = list(found.top(5).values())[-1]
    return f"{words}; the truth is among the best five of {_of(five)} ({_ends(five)})."


def _classes(found: "Accuracy") -> str:
    classes = found.classes
    rest = len(found.labels) - len(classes)
    without = (
        f" {rest} of the network's {len(found.labels)} classes have no picture." if rest else ""
    )
    if len(classes) == 1:
        return f"All pictures are of one class, {printable(classes[0].name)}.{without}"
    if classes[0].share == classes[-1].share:
        return f"All {len(classes)} classes are equally hard.{without}"
    hardest = [each for each in classes[:NAMED] if each.share < classes[-1].share]
    easiest = [each for each in classes[::-1][:NAMED] if each.share > hardest[-1].share]
    return f"The hardest: {_named(hardest)}. The easiest: {_named(easiest)}.{without}"


def _helped(found: "Accuracy") -> str:
    titles = list(found.told)
    shares = found.top(1)
    before, after = found.told[titles[0]].right, found.last.right
    mended, made, chance = mcnemar(before, after)
    gain = 100 * (shares[titles[-1]].share - shares[titles[0]].share)
    word = (
        "no picture is told right by one alone"
        if not mended + made
        else f"{mended} mistakes mended and {made} made, "
        + ("more than chance explains" if chance < CHANCE else "which chance may explain")
        + f" (McNemar's exact test, p = {chance:.2g})"
    )
    return (
        f"{printable(titles[-1])}: {_of(shares[titles[-1]])}, against {_of(shares[titles[0]])} of "
        f"{printable(titles[0])} ({gain:+.1f} points; {word})."
    )


def _factors(found: "Accuracy") -> list[str]:
    """What each of them matters; those that do not at all, together."""
    shares = {factor.name: found.by(factor) for factor in found.factors if any(factor.of)}
    told = {name: {each.share for each in of} for name, of in shares.items() if len(of) > 1}
    alike = [printable(name) for name, several in told.items() if len(several) == 1]
    said = [
        _factor(factor, shares[factor.name])
        for factor in found.factors
        if factor.name in shares and printable(factor.name) not in alike
    ]
    if alike:
        words = " and ".join(filter(None, [", ".join(alike[:-1]), alike[-1]]))
        said.append(f"By {words}: no difference.")
    return said


def _factor(factor: Attribute, shares: Sequence[Share]) -> str:
    low, high = min(shares, key=_share), max(shares, key=_share)
    name = printable(factor.name)
    if len(shares) == 1:
        return f"All pictures with a {name} have the same, {printable(low.name)}."
    words = f"{_named([high])} is the easiest, {_named([low])} the hardest"
    if not low.apart(high):
        return f"By {name}: {words}; their intervals overlap."
    return f"{name[:1].upper()}{name[1:]} matters: {words}."


def _sureness(found: "Accuracy") -> str:
    told = found.last
    confidence, accuracy = float(told.confidence.mean()), float(told.right.mean())
    gap = 100 * (confidence - accuracy)
    way = "too sure" if gap > 0 else "not sure enough"
    words = "about as sure as it is right" if abs(gap) < 1 else f"{way} by {abs(gap):.1f} points"
    return (
        f"Its confidence is {percent(confidence, 1)} on average: it is {words}. The expected "
        f"calibration error is {percent(found.calibration_error, 1)}."
    )


def _share(each: Share) -> float:
    return each.share


def _of(share: Share) -> str:
    return percent(share.share, 1)


def _ends(share: Share) -> str:
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def _named(shares: Sequence[Share]) -> str:
    return ", ".join(
        f"{printable(each.name)} ({percent(each.share)} of {each.count})" for each in shares
    )

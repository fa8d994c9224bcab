"""How curves are named and their numbers written, in tables and on pages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from convlens.client import RobustnessPoint
from convlens.client._text import percent
from convlens.client.cli._attack_output import about_flag
from convlens.client.cli._robustness_run import Evaluation

TOGETHER = "all together"
NORMS = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one attack, or of all attacks of a norm together, from the clean one on.

    `attack` is its place in the plan; None for all together. `is_worst` marks the one curve of a
    norm that says what the network withstands.
    """

    name: str
    attack: int | None
    norm: str
    points: Sequence[RobustnessPoint]
    is_worst: bool


def curves_of(evaluation: Evaluation) -> list[Curve]:
    """The curves norm by norm: attack by attack, then all together where there are several."""
    points = evaluation.done.points
    norms = dict.fromkeys(point.norm for point in points)
    return [curve for norm in norms for curve in _of_norm(evaluation, norm)]


def _of_norm(evaluation: Evaluation, norm: str) -> list[Curve]:
    points = [point for point in evaluation.done.points if point.norm == norm]
    clean = next((point for point in points if point.epsilon == 0), None)
    attacks = dict.fromkeys(point.attack_index for point in points)
    single = len(attacks.keys() - {None}) == 1
    curves: list[Curve] = []
    for attack in attacks:
        if single and attack is None and len(attacks) > 1:
            # It says the same once more.
            continue
        own = [point for point in points if point.attack_index == attack and point.epsilon > 0]
        first = [replace(clean, attack_index=attack)] if clean else []
        name = TOGETHER if attack is None else evaluation.attacks[attack]
        curves.append(Curve(name, attack, norm, [*first, *own], attack is None or single))
    return curves


def budget(norm: str, epsilon: float) -> str:
    """A budget as people write it: "8/255", and "0.5" of a Euclidean one."""
    steps = round(epsilon * 255, 3)
    if norm == "linf" and epsilon and abs(epsilon * 255 - steps) < 1e-6:
        return f"{steps:g}/255"
    return f"{epsilon:.4g}"


def flag_sentences(evaluation: Evaluation) -> list[str]:
    """What keeps failed attacks from being robustness, attack by attack."""
    return [
        f"{evaluation.attacks[attack]}, {images_of(count)}: {about_flag(flag).rstrip('.')}. "
        "Do not read failure of this attack there as robustness."
        for (attack, flag), count in sorted(evaluation.flags.items())
    ]


def failure_sentence(evaluation: Evaluation) -> str:
    """How many images do not count, and why; empty where all do."""
    failed = sum(evaluation.failures.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in evaluation.failures.items())
    does = "has no answer and does" if failed == 1 else "have no answer and do"
    return f"{images_of(failed)} {does} not count: {reasons}." if failed else ""


def partial_sentence(evaluation: Evaluation) -> str:
    """Says that the curve is not that of all images; empty where it is."""
    if not evaluation.done.is_partial:
        return ""
    done = evaluation.done.images_done
    return f"The time was over after {done} of {evaluation.images} images; the curve is of these."


def images_of(count: int) -> str:
    """ "1 image", "2 images"."""
    return f"{count} image{'' if count == 1 else 's'}"


def between(low: float, high: float) -> str:
    """An interval in percent: "58.1 – 66.0 %"."""
    return f"{low * 100:.1f} – {percent(high, 1)}"


def worst(curves: Iterable[Curve]) -> list[Curve]:
    """Of each norm, the curve that says what the network withstands."""
    return [curve for curve in curves if curve.is_worst]

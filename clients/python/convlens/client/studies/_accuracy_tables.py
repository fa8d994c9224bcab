"""The numbers of an accuracy report."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas import DataFrame

from convlens.client.studies._attributes import title_of
from convlens.client.studies._shares import Share
from convlens.client.studies._study import cell

if TYPE_CHECKING:
    from convlens.client.studies._accuracy import Accuracy


def accuracy_tables(found: "Accuracy") -> Mapping[str, DataFrame]:
    """All tables; the shares are in percent."""
    made = {"Accuracy": _ways(found), "Classes": _classes(found)}
    for factor in found.factors:
        rows = [{factor.name: each.name} | _numbers(each) for each in found.by(factor)]
        if rows:
            made[title_of(factor)] = DataFrame(rows)
    made["Calibration"] = _calibration(found)
    made["Confusions"] = _confusions(found)
    made["Mistakes"] = _mistakes(found)
    return made


def _ways(found: "Accuracy") -> DataFrame:
    five = found.top(5)
    rows: list[dict[str, Any]] = []
    for title, share in found.top(1).items():
        row: dict[str, Any] = {"asked": title, "top-1 %": _percent(share.share)}
        row |= {"low %": _percent(share.low), "high %": _percent(share.high)}
        if len(found.labels) > 5:
            row |= {
                "top-5 %": _percent(five[title].share),
                "top-5 low %": _percent(five[title].low),
                "top-5 high %": _percent(five[title].high),
            }
        rows.append(row | {"right": share.right, "pictures": share.count})
    return DataFrame(rows)


def _classes(found: "Accuracy") -> DataFrame:
    told: dict[str, Counter[str]] = {}
    for true, other, count in found.confusions:
        told.setdefault(true, Counter())[other] = count
    rows: list[dict[str, Any]] = []
    for each in found.classes:
        instead = told.get(each.name, Counter[str]()).most_common(1)
        word = f"{instead[0][0]} ({instead[0][1]})" if instead else ""
        rows.append({"class": each.name} | _numbers(each) | {"most often taken for": word})
    return DataFrame(rows)


def _calibration(found: "Accuracy") -> DataFrame:
    rows = [
        {
            "confidence above %": _percent(each.low),
            "up to %": _percent(each.high),
            "pictures": each.count,
            "mean confidence %": _percent(each.confidence),
            "accuracy %": _percent(each.accuracy),
        }
        for each in found.bins
    ]
    return DataFrame(rows)


def _confusions(found: "Accuracy") -> DataFrame:
    counts = Counter(found.labels[index] for index in found.truth.tolist())
    rows = [
        {
            "true": true,
            "told": told,
            "times": times,
            "of the true %": _percent(times / counts[true]),
        }
        for true, told, times in found.confusions
    ]
    return DataFrame(rows, columns=np.array(["true", "told", "times", "of the true %"]))


def _mistakes(found: "Accuracy") -> DataFrame:
    rows = [
        (
            cell(each.picture),
            each.true,
            each.told,
            _percent(each.confidence),
            _percent(each.truth),
            each.rank,
        )
        for each in found.mistakes
    ]
    columns = ["picture", "true", "told", "told with %", "true with %", "true comes"]
    return DataFrame(rows, columns=np.array(columns))


def _numbers(share: Share) -> dict[str, Any]:
    return {
        "accuracy %": _percent(share.share),
        "low %": _percent(share.low),
        "high %": _percent(share.high),
        "right": share.right,
        "pictures": share.count,
    }


def _percent(share: float) -> float:
    return round(100 * share, 3)

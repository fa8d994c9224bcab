"""The page of a map: thumbnails that do not overlap, at whatever scale one looks."""

import base64
from typing import Any

import numpy as np

from convlens.client._text import readable
from convlens.client.studies._code_map import WORDS, CodeMap
from convlens.client.studies._pages import page


def map_page(made: CodeMap) -> str:
    """One file of HTML with everything in it."""
    sheet, columns = made.thumbnails.sheet()
    return page(
        "map",
        heading=made.heading,
        lead=f"{made.layer} of {made.facts.network}, laid out by {WORDS[made.way]}",
        count=len(made.pictures),
        sheet=f"data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')}",
        data=_data(made, columns),
    )


def _data(made: CodeMap, columns: int) -> dict[str, Any]:
    """What the script draws: numbers of each picture, and texts by their numbers."""
    # The longer side of the map is 1, so that distances keep their proportions; y points down.
    low, span = made.positions.min(axis=0), np.ptp(made.positions, axis=0).max()
    points = (made.positions - low) / (span or 1)
    points[:, 1] = points[:, 1].max() - points[:, 1]
    # Which picture has the right of way is no matter of its name or class.
    order = np.random.default_rng(0).permutation(len(points))
    predictions, predicted = np.unique(np.asarray(made.predictions), return_inverse=True)
    data: dict[str, Any] = {
        "x": points[:, 0].round(6).tolist(),
        "y": points[:, 1].round(6).tolist(),
        "width": made.thumbnails.sizes[:, 1].tolist(),
        "height": made.thumbnails.sizes[:, 0].tolist(),
        "side": made.thumbnails.side,
        "columns": columns,
        "order": order.tolist(),
        "names": [readable(name) for name in made.names],
        "predictions": [readable(str(each)) for each in predictions],
        "prediction": predicted.tolist(),
        "probability": made.probabilities.round(4).tolist(),
        "labels": None,
        "label": None,
        "right": None if made.right is None else made.right.astype(int).tolist(),
    }
    if made.labels is not None:
        labels, labelled = np.unique(np.asarray(made.labels), return_inverse=True)
        data |= {
            "labels": [readable(str(each)) for each in labels],
            "label": labelled.tolist(),
        }
    return data

"""Lays codes out in the plane, and points of the plane into the cells of a grid."""

from importlib import import_module
from math import ceil, sqrt
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from convlens.client._errors import InvalidRequest

Way: TypeAlias = Literal["t-sne", "pca", "umap"]
Points: TypeAlias = NDArray[np.float64]

FEWEST = 3
# Dimensions that t-SNE and UMAP are given: van der Maaten & Hinton reduce to 30, scikit-learn
# advises 50.
DIMENSIONS = 50
# Where fewer pictures are, the neighbourhood must be smaller.
PERPLEXITY, UMAP_NEIGHBOURS = 30.0, 15
# Cells whose pictures are assigned at once; the time of it grows with the cube.
MOST_CELLS = 1024


def check_way(way: str) -> None:
    """Raises InvalidRequest where there is no such way, or its library is not there."""
    if way not in get_args(Way):
        raise InvalidRequest(f"way is {way!r}; it must be one of {', '.join(get_args(Way))}.")
    if way == "umap":
        _umap()


def check_count(pictures: int) -> None:
    """Raises InvalidRequest where there are fewer than three."""
    if pictures < FEWEST:
        raise InvalidRequest(f"A map needs at least {FEWEST} pictures; there are {pictures}.")


def plane(codes: NDArray[Any], way: Way, seed: int = 0) -> Points:
    """A point [n, 2] of the plane for each code [n, d].

    "pca" are the two directions of most variance; "t-sne" (van der Maaten & Hinton 2008) and "umap"
    (McInnes et al. 2018) keep neighbours together and begin with the 50 first directions. Raises
    InvalidRequest for fewer than three codes, and for codes that are all the same.
    """
    check_way(way)
    check_count(len(codes))
    if not np.isfinite(codes).all():
        raise InvalidRequest("Some codes are not finite; choose another layer.")
    if not np.ptp(codes, axis=0).any():
        raise InvalidRequest("All pictures have the same code; there is nothing to map.")
    few = _reduced(codes, 2 if way == "pca" else DIMENSIONS, seed)
    if way == "t-sne":
        return _t_sne(few, seed)
    if way == "umap":
        neighbours = min(UMAP_NEIGHBOURS, len(codes) - 1)
        # Three have no spectrum to begin with.
        init = "spectral" if len(codes) > FEWEST else "random"
        made = _umap().UMAP(n_neighbors=neighbours, init=init, random_state=seed, n_jobs=1)
        return np.asarray(made.fit_transform(few), np.float64)
    return few


def grid(points: Points) -> NDArray[np.int64]:
    """A cell (row, column) of a square grid for each point [n, 2], no two in one; y points up.

    Squared distances to the cells are least in sum (Jonker & Volgenant 1987). More points than
    1024 are halved at first, along the longer side, until so few share a part of the grid.
    """
    span = np.ptp(points, axis=0)
    columns = ceil(sqrt(len(points)))
    rows = ceil(len(points) / columns)
    shares = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    places = np.stack([(1 - shares[:, 1]) * (rows - 1), shares[:, 0] * (columns - 1)], axis=1)
    found = np.empty((len(points), 2), np.int64)
    _place(places, np.arange(len(points)), (0, 0, rows, columns), found)
    return found


def nearest(points: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The numbers [n, count] of the nearest other points of each, by Euclidean distance."""
    from sklearn.neighbors import NearestNeighbors  # pyright: ignore[reportMissingTypeStubs]

    model: Any = NearestNeighbors(n_neighbors=count)
    return np.asarray(model.fit(points).kneighbors(return_distance=False), np.int64)


def apart(points: Points, sizes: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rectangles, (width, height) around points [n, 2], overlap none taken before them."""
    taken = np.zeros(len(points), np.bool_)
    for number, (point, size) in enumerate(zip(points, sizes, strict=True)):
        before = np.flatnonzero(taken[:number])
        near = np.abs(points[before] - point) < (sizes[before] + size) / 2
        taken[number] = not near.all(axis=1).any()
    return taken


def _reduced(codes: NDArray[Any], dimensions: int, seed: int) -> Points:
    from sklearn.decomposition import PCA  # pyright: ignore[reportMissingTypeStubs]

    count = min(dimensions, *codes.shape)
    model: Any = PCA(count, random_state=seed)
    made = np.asarray(model.fit_transform(np.asarray(codes, np.float64)))
    # A code of one number has no second direction.
    return np.pad(made, ((0, 0), (0, max(0, 2 - count))))


def _t_sne(few: Points, seed: int) -> Points:
    from sklearn.manifold import TSNE  # pyright: ignore[reportMissingTypeStubs]

    perplexity = min(PERPLEXITY, (len(few) - 1) / 3)
    model: Any = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(model.fit_transform(few), np.float64)


def _umap() -> Any:
    try:
        return import_module("umap")
    except ImportError:
        raise InvalidRequest(
            "UMAP is not installed; pip install umap-learn, or choose t-sne or pca."
        ) from None


def _place(
    places: Points,
    members: NDArray[np.int64],
    part: tuple[int, int, int, int],
    found: NDArray[np.int64],
) -> None:
    """Gives the members cells of the part (top, left, height, width), which has enough of them."""
    top, left, height, width = part
    if not len(members):
        return
    if height * width <= MOST_CELLS:
        _assign(places, members, part, found)
        return
    axis = 0 if height >= width else 1
    half = (height if axis == 0 else width) // 2
    first = (top, left, half, width) if axis == 0 else (top, left, height, half)
    rest = (
        (top + half, left, height - half, width)
        if axis == 0
        else (top, left + half, height, width - half)
    )
    ordered = members[np.argsort(places[members, axis], kind="stable")]
    # Empty cells are shared as well, so that neither part has more members than cells.
    count = round(len(members) * first[2] * first[3] / (height * width))
    _place(places, ordered[:count], first, found)
    _place(places, ordered[count:], rest, found)


def _assign(
    places: Points,
    members: NDArray[np.int64],
    part: tuple[int, int, int, int],
    found: NDArray[np.int64],
) -> None:
    optimize: Any = import_module("scipy.optimize")

    top, left, height, width = part
    cells = np.indices((height, width)).reshape(2, -1).T + np.array([top, left])
    costs = ((places[members, None, :] - cells[None]) ** 2).sum(axis=2)
    numbers, chosen = optimize.linear_sum_assignment(costs)
    found[members[numbers]] = cells[chosen]

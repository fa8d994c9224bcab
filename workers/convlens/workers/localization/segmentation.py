"""Cuts an object out of a picture: by strength, and by colour."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convlens.workers.localization.strength import ROUNDING

Array: TypeAlias = NDArray[Any]
Flags: TypeAlias = NDArray[np.bool_]

# GrabCut describes the colours of either side by as many Gaussians.
GAUSSIANS = 5
# GrabCut may be told a rectangle instead of labels.
NO_RECTANGLE = (0, 0, 0, 0)


def strongest(strengths: Array, quantile: float) -> Flags:
    """The places [h, w] above a quantile of the strengths, or level with it where it is not 0."""
    return strengths > np.quantile(strengths, quantile) * (1 - ROUNDING)


def weakest(strengths: Array, quantile: float) -> Flags:
    """The places [h, w] up to a quantile of the strengths; in sparse maps it is 0."""
    return strengths <= np.quantile(strengths, quantile) * (1 + ROUNDING)


def grabcut(
    colors: NDArray[np.uint8], foreground: Flags, background: Flags, iterations: int
) -> Flags | None:
    """The object in a picture [h, w, 3] by the colours of sure foreground and sure background.

    None where either has fewer than GAUSSIANS pixels. The first iteration knows the colours of what
    is sure alone, as in Simonyan et al. 2013, arXiv:1312.6034; later ones learn from the result of
    the one before, until nothing changes. Rother et al. 2004, SIGGRAPH. Depends on nothing but its
    arguments.
    """
    import cv2

    if min(np.count_nonzero(foreground), np.count_nonzero(background)) < GAUSSIANS:
        return None
    labels = np.full(foreground.shape, cv2.GC_PR_BGD, np.uint8)
    labels[background] = cv2.GC_BGD
    labels[foreground] = cv2.GC_FGD
    sure = foreground | background
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # The first colours are clustered from random ones; each thread has its own generator for them.
    cv2.setRNGSeed(0)
    start = cv2.GC_INIT_WITH_MASK
    cv2.grabCut(colors[sure][None], labels[sure][None], NO_RECTANGLE, *models, 0, start)
    cv2.grabCut(colors, labels, NO_RECTANGLE, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
    for _ in range(iterations - 1):
        before = labels.copy()
        cv2.grabCut(colors, labels, NO_RECTANGLE, *models, 1, cv2.GC_EVAL)
        if np.array_equal(labels, before):
            break
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def largest_component(mask: Flags) -> Flags:
    """The largest part that hangs together, over corners too; of equal ones the first."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return labels == 1 + areas.argmax()


def opencv_version() -> str:
    """Version of OpenCV, whose cuts may differ from one to the next."""
    import cv2

    return cv2.__version__

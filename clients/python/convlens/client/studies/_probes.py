"""Linear classifiers on codes: trained on a part of the pictures, judged on the others."""

# scikit-learn has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportArgumentType=false

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

# The penalties that are tried, and parts of the training pictures that take turns in judging them.
COSTS, FOLDS = (1.0, 10.0, 100.0, 1000.0), 3
# Rows of codes that are in memory at a time beside those that are learned from.
BLOCK = 1024
SVM, SOFTMAX = "SVM", "softmax"


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Numbers of the pictures to learn from, as many of each class, and of those to judge by."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def splits_of(truth: NDArray[np.int64], per_class: int, count: int, seed: int) -> list[Split]:
    """So many random splits; split i of a seed is the same, however many there are."""
    made: list[Split] = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        orders = [rng.permutation(np.flatnonzero(truth == each)) for each in np.unique(truth)]
        train = np.concatenate([order[:per_class] for order in orders])
        test = np.sort(np.concatenate([order[per_class:] for order in orders]))
        made.append(Split(train, test))
    return made


def scores(
    codes: NDArray[Any], truth: NDArray[np.int64], split: Split, dimensions: Sequence[int]
) -> Mapping[tuple[int, str], float]:
    """The mean over the classes of their accuracy, by (dimensions, classifier); 0 is whole codes.

    `codes` [pictures, numbers] may lie on disk. Dimensions that the training codes do not have are
    left out. Memory is of the training codes and of one block of others.
    """
    known = normalize(np.asarray(codes[split.train], np.float32))
    # A linear classifier sees nothing beside the span of what it learned from: in the coordinates
    # of all its components it is the same as on the whole codes, and is learned much faster.
    pca = PCA(svd_solver="full").fit(known)
    rank = int(pca.n_components_)
    reduced = pca.transform(known)
    sizes = {0: rank} | {each: each for each in dimensions if each <= rank}
    learned = {
        (key, kind): _fitted(kind, reduced[:, :size], truth[split.train])
        for key, size in sizes.items()
        for kind in (SVM, SOFTMAX)
    }
    told: dict[tuple[int, str], list[NDArray[Any]]] = {each: [] for each in learned}
    for start in range(0, len(split.test), BLOCK):
        rows = np.asarray(codes[split.test[start : start + BLOCK]], np.float32)
        seen = pca.transform(normalize(rows))
        for (key, kind), classifier in learned.items():
            told[key, kind].append(classifier.predict(seen[:, : sizes[key]]))
    right = truth[split.test]
    return {
        each: float(balanced_accuracy_score(right, np.concatenate(parts)))
        for each, parts in told.items()
    }


def _fitted(kind: str, codes: NDArray[Any], truth: NDArray[np.int64]) -> Any:
    """The classifier with the penalty that does best on parts of the training pictures."""
    # The primal problem has one solution and needs no random order.
    bare = LinearSVC(dual=False) if kind == SVM else LogisticRegression(tol=1e-6, max_iter=10_000)
    folds = min(FOLDS, int(np.bincount(truth).min()))
    with warnings.catch_warnings():
        # A penalty that is too weak to converge is one that the others beat.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if folds < 2:
            return bare.set_params(C=COSTS[1]).fit(codes, truth)
        search = GridSearchCV(bare, {"C": COSTS}, cv=StratifiedKFold(folds))
        return search.fit(codes, truth)

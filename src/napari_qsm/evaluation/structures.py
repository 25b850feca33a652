"""How well a map renders tissue, blood, deep grey matter and a calcification.

The figures of the QSM challenge 2.0 (doi:10.1002/mrm.28754), defined as the public scorer
``qsm-ci`` defines them: both maps count as zero outside the mask, and so does the estimate where it
is not a number, so that leaving voxels out does not pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.metrics import checked, nrmse
from napari_qsm.evaluation.regions import whole_labels
from napari_qsm.training.tissues import DEEP_GREY, LABEL

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scheme:
    """Which labels mean what.

    Parameters
    ----------
    tissue, deep_grey, blood, calcification : tuple[int, ...]
        Numbers of the labels; none where there is no such tissue.
    names : mapping of int to str
        What the labels are called.
    """

    tissue: tuple[int, ...]
    deep_grey: tuple[int, ...]
    blood: tuple[int, ...]
    calcification: tuple[int, ...]
    names: Mapping[int, str] = field(default_factory=dict)


def _numbers(names: Iterable[str]) -> tuple[int, ...]:
    return tuple(LABEL[name] for name in names)


_TISSUE = (
    "white matter", "corpus callosum", "internal capsule", "optic radiation",
    "cerebellar white matter", "cortex", "cerebellar cortex", "thalamus",
)  # fmt: skip

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "qsm-ci": Scheme(
            tissue=(7, 8, 9),
            deep_grey=(1, 2, 3, 4, 5, 6),
            blood=(11,),
            calcification=(16,),
            names={
                1: "caudate",
                2: "pallidum",
                3: "putamen",
                4: "red nucleus",
                5: "dentate",
                6: "substantia nigra",
                7: "thalamus",
                8: "white matter",
                9: "grey matter",
                10: "CSF",
                11: "blood",
                13: "bone",
                14: "air",
                15: "muscle",
                16: "calcification",
            },
        ),
        "digital-head": Scheme(
            tissue=_numbers(_TISSUE),
            deep_grey=_numbers(name for name in DEEP_GREY if name != "thalamus"),
            blood=_numbers(("vein",)),
            calcification=_numbers(("calcification",)),
            names={number: name for name, number in LABEL.items()},
        ),
    }
)
"""Known meanings of labels: the in silico head of the challenge, and the digital head."""


def tissue_error(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: Mask,
    labels: NDArray[Any],
    members: Iterable[int],
    *,
    grown: bool = False,
) -> float:
    """Detrended NRMSE in percent over some labels: dNRMSE of tissue, blood or deep grey.

    ``100 |(x - a) / b - r| / |r|`` over the voxels of the labels, r less its mean there, and a, b
    the offset and slope of the regression of x on r.

    Parameters
    ----------
    estimate, reference : (X, Y, Z) arrays
        x and r in ppm.
    mask : (X, Y, Z) array of bool
        Voxels that were reconstructed.
    labels : (X, Y, Z) array
        Whole numbers.
    members : iterable of int
        Labels that count.
    grown : bool
        Whether neighbours of the voxels count, too, as they do for vessels: all 26.

    Raises
    ------
    InputError
        If shapes differ, no voxel has such a label, or the reference does not vary there.

    Notes
    -----
    Reference: QSM Challenge 2.0 Organization Committee 2021, doi:10.1002/mrm.28754.
    """
    x, r = _zeroed(estimate, reference, mask)
    part = _having(labels, members, mask)
    if grown:
        part = ndimage.binary_dilation(part, structure=np.ones((3, 3, 3), bool))
    return nrmse(x, r, part, detrend="line")


@dataclass(frozen=True)
class Linearity:
    """The line that region means lie on: ``mean x = slope mean r + offset``, in ppm."""

    slope: float
    offset: float
    regions: int

    @property
    def deviation(self) -> float:
        """How far the slope is from 1: the figure of the challenge."""
        return abs(1 - self.slope)


def linearity(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: Mask,
    labels: NDArray[Any],
    members: Iterable[int],
) -> Linearity:
    """Fit the mean susceptibility of regions against the reference's: deep-grey linearity.

    Least squares over the regions, each counting once whatever its size.

    Parameters
    ----------
    estimate, reference, mask, labels
        As for `tissue_error`.
    members : iterable of int
        Labels of the regions.

    Raises
    ------
    InputError
        If shapes differ, fewer than two of the regions are there, or all have the same mean.

    Notes
    -----
    Reference: QSM Challenge 2.0 Organization Committee 2021, doi:10.1002/mrm.28754.
    """
    x, r = _zeroed(estimate, reference, mask)
    numbers = whole_labels(labels)
    wanted = np.array(sorted(set(members) & set(np.unique(numbers).tolist())))
    if len(wanted) < 2:
        raise InputError(
            f"A line through region means needs two regions and {len(wanted)} are labelled; "
            "choose labels of the deep grey matter."
        )
    means = np.array([ndimage.mean(values, numbers, wanted) for values in (r, x)])
    truth, found = means - means.mean(axis=1, keepdims=True)
    if not truth.any():
        raise InputError("All regions have the same mean in the reference; choose other labels.")
    slope = float(truth @ found) / float(truth @ truth)
    return Linearity(slope, float(means[1].mean() - slope * means[0].mean()), len(wanted))


@dataclass(frozen=True)
class Calcification:
    """What became of a calcification.

    Parameters
    ----------
    moment_error : float
        Distance of its susceptibility, summed over its voxels, from the reference's, in ppm voxels.
    streak : float or None
        Standard deviation of what is around it without being in the reference, over its own mean
        susceptibility; None if the map shows no calcification.
    """

    moment_error: float
    streak: float | None


CUBE, RIM, OUTSIDE = 3, 4, 4
"""Voxels around the labelled box: the cube it may fill, the rim of streaks, and what is beyond."""

_THRESHOLDS: Final = -0.01 * np.arange(351)
"""In ppm; one of these tells calcification from everything else."""


def calcification(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: Mask,
    labels: NDArray[Any],
    members: Iterable[int],
) -> Calcification:
    """Measure the moment of a calcification and the streaks around it.

    A cube reaches 3 voxels beyond the labelled ones. In it, calcification is what lies below the
    least negative threshold (steps of 0.01 ppm) that nothing reaches within 8 voxels around it.
    With n voxels of mean c there, M the sum of the reference over the labelled voxels, and e the
    residual of the regression of x on r within 4 voxels around the cube::

        moment error = |M - n c|
        streak = sd(e) / |c|

    Parameters
    ----------
    estimate, reference, mask, labels
        As for `tissue_error`.
    members : iterable of int
        Labels of the calcification.

    Raises
    ------
    InputError
        If shapes differ or nothing is labelled as calcification.

    Notes
    -----
    Reference: QSM Challenge 2.0 Organization Committee 2021, doi:10.1002/mrm.28754.
    """
    x, r = _zeroed(estimate, reference, mask)
    part = np.isin(whole_labels(labels), list(members))
    if not part.any():
        raise InputError("No voxel is labelled as calcification; choose other labels.")
    cube, rim, around = _shells(part)
    moment = float(r[part].sum())
    nothing = float(x[around].min(initial=np.inf)) >= _THRESHOLDS
    found = x[cube]
    found = found[found < _THRESHOLDS[np.argmax(nothing) if nothing.any() else -1]]
    if not found.size:
        return Calcification(abs(moment), None)
    error = abs(moment - float(found.sum()))
    if np.count_nonzero(rim) < 2:
        return Calcification(error, None)
    return Calcification(error, _residual(x[rim], r[rim]) / abs(float(found.mean())))


def _shells(part: Mask) -> tuple[Mask, Mask, Mask]:
    """Return the cube about a structure, the rim around it, and the rim with what is beyond."""
    (box,) = ndimage.find_objects(part.astype(np.uint8))

    def grown(by: int) -> Mask:
        filled: Mask = np.zeros(part.shape, bool)
        filled[tuple(slice(max(0, s.start - by), s.stop + by) for s in box)] = True
        return filled

    cube = grown(CUBE)
    return cube, grown(CUBE + RIM) & ~cube, grown(CUBE + RIM + OUTSIDE) & ~cube


def _residual(x: Values, r: Values) -> float:
    """Return the standard deviation of what the regression of x on r leaves of x."""
    x, r = x - x.mean(), r - r.mean()
    size = float(r @ r)
    return float(np.std(x - (float(x @ r) / size if size > 0 else 0.0) * r))


def _zeroed(estimate: NDArray[Any], reference: NDArray[Any], mask: Mask) -> tuple[Values, Values]:
    x, r = checked(estimate, reference, mask)
    return np.where(mask & np.isfinite(x), x, 0.0), np.where(mask, r, 0.0)


def _having(labels: NDArray[Any], members: Iterable[int], mask: Mask) -> Mask:
    if labels.shape != mask.shape:
        raise InputError(
            f"The labels have shape {labels.shape} and the mask {mask.shape}; bring them to one "
            "grid."
        )
    part: Mask = np.isin(whole_labels(labels), list(members)) & mask
    if not part.any():
        raise InputError("No voxel inside the mask has one of these labels; choose other labels.")
    return part


@dataclass(frozen=True)
class Figure:
    """One figure of `structure_figures`: its name in files, its unit, and what it means."""

    key: str
    unit: str
    help: str
    compute: Callable[[NDArray[Any], NDArray[Any], Mask, NDArray[Any], Scheme], float] = field(
        repr=False
    )


def _streak(x: Values, r: Values, m: Mask, n: NDArray[Any], s: Scheme) -> float:
    streak = calcification(x, r, m, n, s.calcification).streak
    if streak is None:
        raise InputError("The map shows no calcification, so it has no streaks; look at its error.")
    return streak


FIGURES: Final = (
    Figure(
        "nrmse_tissue",
        "%",
        "Detrended error in white and grey matter and thalamus.",
        lambda x, r, m, n, s: tissue_error(x, r, m, n, s.tissue),
    ),
    Figure(
        "nrmse_blood",
        "%",
        "Detrended error in vessels and the voxels around them.",
        lambda x, r, m, n, s: tissue_error(x, r, m, n, s.blood, grown=True),
    ),
    Figure(
        "nrmse_dgm",
        "%",
        "Detrended error in the deep grey matter.",
        lambda x, r, m, n, s: tissue_error(x, r, m, n, s.deep_grey),
    ),
    Figure(
        "dgm_slope",
        "",
        "Slope of the means of deep grey regions against the reference's.",
        lambda x, r, m, n, s: linearity(x, r, m, n, s.deep_grey).slope,
    ),
    Figure(
        "dgm_offset",
        "ppm",
        "Offset of that line.",
        lambda x, r, m, n, s: linearity(x, r, m, n, s.deep_grey).offset,
    ),
    Figure(
        "dgm_linearity",
        "",
        "How far that slope is from 1.",
        lambda x, r, m, n, s: linearity(x, r, m, n, s.deep_grey).deviation,
    ),
    Figure(
        "calc_moment_dev",
        "ppm voxels",
        "Error of the calcification's total susceptibility.",
        lambda x, r, m, n, s: calcification(x, r, m, n, s.calcification).moment_error,
    ),
    Figure("calc_streak", "", "Streaks around the calcification over its mean.", _streak),
)
"""All figures of a map with labels; those that ``qsm-ci`` has carry its names."""


def structure_figures(
    estimate: NDArray[Any],
    reference: NDArray[Any],
    mask: Mask,
    labels: NDArray[Any],
    scheme: Scheme,
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Compute all `FIGURES` of a map; return them by key, and why some are not a number.

    Raises
    ------
    InputError
        If shapes differ, the mask is empty or the labels are no whole numbers.
    """
    checked(estimate, reference, mask)
    _having(labels, np.unique(whole_labels(labels)).tolist(), mask)
    values, notes = {}, []
    for figure in FIGURES:
        try:
            values[figure.key] = figure.compute(estimate, reference, mask, labels, scheme)
        except InputError as error:
            values[figure.key] = float("nan")
            notes.append(f"{figure.key}: {error}")
    return values, tuple(notes)

"""Lesions of known strength: what a method makes of 0.2 to 4 ppm, and of calcifications.

The same six bodies sit in one unseen head; only their susceptibility changes. The field is linear
in it, so two convolutions on the fine grid serve all strengths. Where the signal fades around
strong sources, voxels at their border are measured by their outer part and sources look larger: a
slope above 1 is then the measurement's. With a signal that does not fade it is the method's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.learned import Contender, Rival, rivals
from benchmarks.store import Store, Trial
from benchmarks.tables import markdown
from napari_qsm.acquisition import Acquisition, FloatArray, InputError, Quantity
from napari_qsm.methods.wrapping import JOINT
from napari_qsm.physics.units import radians_per_ppm
from napari_qsm.training.anatomy import icbm_head
from napari_qsm.training.phantom import Head, digital_head, field_inside
from napari_qsm.training.population import Case
from napari_qsm.training.sources import Body
from napari_qsm.training.tissues import R2PRIME_PER_PPM
from napari_qsm.training.unseen import FIRST_SEED, coarser

STRENGTHS = (-1.0, -0.5, -0.2, 0.2, 0.4, 0.8, 1.2, 2.0, 3.0, 4.0)
"""In ppm."""

FEW, FEWER = (-1.0, -0.2, 0.2, 1.2, 4.0), (-0.5, 0.2, 1.0, 4.0)
"""With a signal that does not fade, and those for methods that take minutes."""

UP_TO = 2.0
"""The slope that counts is that of the strengths up to this, in ppm."""

FINE_MM, COARSER_MM = 0.75, 1.1
FIELD_STRENGTH, ECHO_TIME, SNR = 3.0, 0.020, 80.0

SITES: tuple[tuple[tuple[float, float, float], float, int], ...] = (
    ((28, 30, 12), 8.0, 1),
    ((-28, 28, 16), 5.0, 3),
    ((30, -48, 24), 4.0, 1),
    ((-30, -46, 26), 9.0, 4),
    ((-26, 2, 2), 6.0, 1),
    ((40, -14, 30), 7.0, 5),
)
"""Centre in atlas mm, radius in mm, and number of lobes: one is a sphere."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A head with places for lesions.

    Parameters
    ----------
    head : Head
        On the fine grid.
    share : (X, Y, Z) array
        How much of a voxel a lesion fills.
    without, unit : (X, Y, Z) arrays
        Field in ppm of everything else, and of lesions of 1 ppm.
    """

    head: Head
    share: FloatArray
    without: FloatArray
    unit: FloatArray


@cache
def scene(fine: float) -> Scene:
    """Make the head in cubes of `fine` mm, and both fields."""
    head = digital_head(fine, seed=FIRST_SEED, lesions=(), anatomy=icbm_head())
    size, start = np.array(head.grid.voxel_size), head.grid.affine[:3, 3]
    rng = np.random.default_rng(FIRST_SEED)
    share = np.zeros(head.mask.shape, dtype=np.float32)
    for centre, radius, lobes in SITES:
        for lobe in range(lobes):
            way = rng.standard_normal(3)
            shift = way / np.linalg.norm(way) * radius * 0.5 if lobe else np.zeros(3)
            reach = radius * (0.7 if lobes > 1 else 1.0)
            at = np.array(centre) + shift - start
            body = Body("ellipsoid", at, np.full(3, reach), np.eye(3), edge=0.0)
            box, filled = body.share(size, share.shape)
            np.maximum(share[box], filled, out=share[box])
    share *= head.mask
    without = field_inside(head.chi * (1 - share), head.mask, head.grid)
    return Scene(head, share, without, field_inside(share, head.mask, head.grid))


def measured(strength: float, *, fading: bool = True, fine: float = FINE_MM) -> Trial:
    """Return the head with lesions of one strength in ppm, measured once.

    With `fading` the signal decays by what is there; otherwise as if there were no lesions. The
    head is made in cubes of `fine` mm and measured in voxels of twice that.
    """
    made = scene(fine)
    head, mask = made.head, made.head.mask
    chi = head.chi * (1 - made.share) + np.float32(strength) * made.share
    seen = chi if fading else head.chi * (1 - made.share)
    rate = head.r2 + R2PRIME_PER_PPM * FIELD_STRENGTH * np.abs(seen)
    signal = head.water * np.exp(-ECHO_TIME * rate)
    scale = radians_per_ppm(FIELD_STRENGTH, ECHO_TIME)
    level = float(np.median(signal[mask])) / SNR
    # A phase that is all noise is spread evenly over a turn.
    noise = np.minimum(level / np.maximum(signal, 1e-9), np.pi / np.sqrt(3)) / scale
    rng = np.random.default_rng([FIRST_SEED, 1])
    field = made.without + np.float32(strength) * made.unit
    field = field + noise * rng.standard_normal(mask.shape, dtype=np.float32)
    volumes = {
        Quantity.LOCAL_FIELD: (field * mask).astype(np.float32),
        Quantity.MASK: mask,
        Quantity.MAGNITUDE: (signal * mask).astype(np.float32),
        Quantity.FIELD_NOISE: (noise * mask).astype(np.float32),
    }
    case = coarser(Case(Acquisition(head.grid, volumes), chi * mask, made.share > 0.5, FIRST_SEED))
    name = f"lesions {strength:g} ppm" + ("" if fading else " unfaded")
    return Trial(name, case.acquisition, case.chi, case.acquisition.mask, lesions=case.lesions)


def contrasts(chi: NDArray[np.float32], trial: Trial) -> NDArray[np.float64]:
    """Mean of a map in the core of every lesion less that of the tissue 2 to 4 voxels around it."""
    assert trial.lesions is not None
    numbers, count = ndimage.label(trial.lesions)
    near = ndimage.binary_dilation(trial.lesions, iterations=2)
    found = []
    for number in range(1, count + 1):
        body = numbers == number
        core = ndimage.binary_erosion(body)
        around = ndimage.binary_dilation(body, iterations=4) & ~near & trial.scored
        found.append(float(chi[core if core.any() else body].mean() - chi[around].mean()))
    return np.array(found)


def linearity_tables(
    store: Store,
    figure: Path | None = None,
    *,
    slow: bool = False,
    only: tuple[str, ...] = (),
    quick: bool = False,
) -> Iterator[str]:
    """Yield tables of estimated over true contrast, in a fading signal and in one that is not.

    The first one is drawn if a file is named. `quick` leaves it out and coarsens the head.
    """
    fine = COARSER_MM if quick else FINE_MM
    for fading, strengths in ((False, FEWER),) if quick else ((True, STRENGTHS), (False, FEW)):
        trials = [measured(strength, fading=fading, fine=fine) for strength in strengths]
        truth = np.stack([contrasts(trial.reference, trial) for trial in trials])
        counted = np.abs(strengths) <= UP_TO
        rows, curves = [], {}
        for rival in _plain(rivals(slow=slow, only=only)):
            found = _found(rival, store, trials)
            if found is None:
                continue
            slopes = (_slope(truth[counted], found[counted]), _slope(truth, found))
            ratios = (found / truth).mean(axis=1)
            curves[rival.label] = found.mean(axis=1)
            rows.append((rival.label, *(f"{v:.2f}" for v in (*slopes, *ratios))))
        head = (
            "method",
            f"slope to {UP_TO:g} ppm",
            "slope, all",
            *(f"{s:g} ppm" for s in strengths),
        )
        told = "in a signal that fades" if fading else "in a signal that does not fade"
        yield markdown(
            f"Estimated over true contrast of {truth.shape[1]} lesions, {told}", head, rows
        )
        if figure is not None and fading:
            draw(truth.mean(axis=1), curves, figure)


def _plain(compared: list[Rival]) -> list[Contender]:
    """Return the methods as they ship; whatever knows the truth or is corrected is left out."""
    shipped = [one for one in compared if isinstance(one, Contender) and not one.tuned]
    return [one for one in shipped if JOINT not in one.method.key]


def _found(rival: Contender, store: Store, trials: list[Trial]) -> NDArray[np.float64] | None:
    """Return contrasts by strength and lesion; None if the method cannot be run."""
    try:
        return np.stack([contrasts(rival.run(store, trial).chi, trial) for trial in trials])
    except InputError:
        return None


def _slope(truth: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Slope of the regression of what was found on the truth."""
    x = truth.ravel() - truth.mean()
    return float(x @ found.ravel() / (x @ x))


def draw(truth: NDArray[np.float64], curves: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Draw what was found against the truth with the plots of the window, without a screen."""
    import pyqtgraph as pg
    from pyqtgraph.exporters import ImageExporter

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    pg.mkQApp()
    pg.setConfigOptions(background="w", foreground="k", antialias=True)
    plot = pg.PlotWidget()
    plot.resize(900, 640)
    item = plot.getPlotItem()
    item.addLegend(offset=(70, 10))
    item.setLabel("bottom", "true contrast, ppm")
    item.setLabel("left", "estimated contrast, ppm")
    item.plot(truth, truth, pen=pg.mkPen("#999", width=1, style=pg.QtCore.Qt.PenStyle.DashLine))
    for number, (name, found) in enumerate(curves.items()):
        colour = pg.intColor(number, hues=max(len(curves), 6), maxValue=200)
        pen = pg.mkPen(colour, width=2)
        item.plot(truth, found, pen=pen, symbol="o", symbolSize=6, symbolBrush=colour, name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pg.QtWidgets.QApplication.processEvents()
    ImageExporter(item).export(str(path))

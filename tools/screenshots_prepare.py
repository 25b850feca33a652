"""Draw the window with each data set prepared and reconstructed, for docs/images.

    tools/with_display.sh python tools/screenshots_prepare.py docs/images [--data ../shared/data]
        [--only philips-enhanced] [--size 1680x1050] [--steps]

One picture for each data set, ``prepare-NAME.png``: total field, local field, R2* and
susceptibility side by side, the Prepare dock in front. ``--steps`` adds ``prepare-NAME-open.png``
and ``prepare-NAME-mask.png``, which show magnitudes and are not for publication where NAME is a
person. Published pictures show maps inside the mask alone, in axial slices, so no face. Data sets
that are not there are passed over.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_qsm.acquisition import Quantity
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets.window import PREPARE, RECONSTRUCT, Window, make_window, to_front
from napari_qsm.workbench.layers import grid_of, quantity_of
from napari_qsm.workbench.placement import place
from napari_qsm.workbench.standing import State

SHOWN = (Quantity.CHI, Quantity.LOCAL_FIELD, Quantity.TOTAL_FIELD)
FOURTH = (Quantity.R2STAR, Quantity.FIELD_NOISE)
PATIENCE = 900.0


class DataSet(NamedTuple):
    """Where a measurement lies, and what its files do not state."""

    folder: str
    echo_times: str = ""
    field_strength: str = ""
    files: str = ""


SETS = {
    "digital-head": DataSet(""),
    "philips-enhanced": DataSet("philips-2echo/In/enh"),
    "philips-classic": DataSet("philips-2echo/In/cl"),
    "siemens-6echo": DataSet("siemens-6echo-dicom"),
    "siemens-xa30": DataSet("siemens-xa30-enhanced/In"),
    "romeo-3echo": DataSet("romeo-3echo", "4, 8, 12", "7", "[MP]*.nii.gz"),
}


def wait(until: Callable[[], bool], what: str) -> None:
    """Let the window live until something is the case."""
    began = time.monotonic()
    while not until():
        QApplication.processEvents()
        time.sleep(0.01)
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"Waited {PATIENCE:.0f} s in vain for {what}.")


def rest(seconds: float) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, "the clock")


@contextmanager
def window_of(size: tuple[int, int]) -> Iterator[Window]:
    """Open a window of a size and close it again."""
    window = make_window()
    window.viewer.window.resize(*size)
    rest(0.5)
    yield window
    window.prepare.shut_down()
    window.reconstruct.shut_down()
    window.viewer.close()
    rest(0.3)


def shoot(window: Window, path: Path) -> None:
    """Take a picture of the whole window."""
    rest(0.8)
    window.viewer.screenshot(str(path), canvas_only=False, flash=False)
    print(f"  {path}")


def open_data(window: Window, data: DataSet, root: Path) -> None:
    """Open a data set as a user would, and type what its files do not state."""
    dock = window.prepare
    if not data.folder:
        dock.open_digital_head()
    else:
        folder = root / data.folder
        dock.open(sorted(folder.glob(data.files)) if data.files else [folder])
        wait(lambda: dock.reader.job is None, "the files to be looked at")
        rest(0.2)
        if dock.source.chosen is None and dock.source.measurement.count():
            print(
                "  measurements:",
                *(f"\n    {m.name}: {m.summary}" for m in dock.reader.source.measurements),
            )
            dock.source.measurement.setCurrentIndex(0)
            dock.source.measurement.activated.emit(0)
    form = dock.source.corrections
    for line, text in (
        (form.echo_times, data.echo_times),
        (form.field_strength, data.field_strength),
    ):
        if text:
            line.setText(text)
            line.editingFinished.emit()
    wait(lambda: dock.preparation.measured is not None and dock.layers.settled, "a measurement")
    rest(0.5)
    print("  found:", dock.source.summary.text())


def prepare(window: Window) -> None:
    """Press Prepare and wait."""
    dock = window.prepare
    wait(dock.run.button.isEnabled, "Prepare to be possible")
    dock.run.button.click()
    wait(lambda: not dock.runner.running and dock.layers.settled, "the preparation")
    rest(0.3)
    print("  prepared:", dock.run.status.text())
    for spot in Place:
        standing = dock.preparation.standing(spot)
        trouble = standing.text if standing.state in (State.FAILED, State.LEFT_OUT) else ""
        print(f"    {spot.label}: {standing.state.value} {standing.seconds or ''} {trouble}")


def reconstruct(window: Window) -> None:
    """Press Reconstruct and wait."""
    dock = window.reconstruct
    to_front(window.viewer, RECONSTRUCT)
    wait(lambda: not dock.workbench.reason_not_to_run(), "Reconstruct to be possible")
    dock.run.button.click()
    wait(lambda: len(dock.results) == 1 and dock.layers.settled, "the reconstruction")
    print("  reconstructed:", dock.run.status.text()[:200])
    to_front(window.viewer, PREPARE)


def arrange(window: Window) -> None:
    """Show maps inside the mask side by side, in the axial slice with the most of it."""
    viewer = window.viewer
    there = {quantity_of(layer) for layer in viewer.layers}
    wanted = (*SHOWN, *[quantity for quantity in FOURTH if quantity in there][:1])
    for layer in viewer.layers:
        layer.visible = quantity_of(layer) in wanted and layer.ndim == 3
    chi = next(x for x in viewer.layers if quantity_of(x) is Quantity.CHI)
    area = (chi.data != 0).sum(axis=(1, 2))
    height = round(float((np.arange(area.size) * area).sum() / area.sum()))
    placed = place(grid_of(chi))
    axis = viewer.dims.ndim - 3
    viewer.dims.set_point(axis, placed["translate"][0] + height * placed["scale"][0])
    viewer.fit_to_view()


def main() -> int:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", action="append", choices=SETS)
    parser.add_argument("--size", default="1680x1050")
    parser.add_argument("--steps", action="store_true")
    asked = parser.parse_args()
    asked.target.mkdir(parents=True, exist_ok=True)
    size = tuple(int(n) for n in asked.size.split("x"))
    for name in asked.only or SETS:
        data = SETS[name]
        if data.folder and not (asked.data / data.folder).exists():
            print(f"{name}: not at {asked.data / data.folder}, passed over")
            continue
        print(name)
        with window_of(size) as window:
            open_data(window, data, asked.data)
            if asked.steps:
                shoot(window, asked.target / f"prepare-{name}-open.png")
            prepare(window)
            if asked.steps:
                shoot(window, asked.target / f"prepare-{name}-mask.png")
            reconstruct(window)
            arrange(window)
            shoot(window, asked.target / f"prepare-{name}.png")
    sys.stdout.flush()
    # Nothing is left to be done, and Qt takes its time to come down.
    os._exit(0)


if __name__ == "__main__":
    napari.settings.get_settings()
    main()

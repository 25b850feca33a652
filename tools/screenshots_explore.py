"""Draw the Explore and Compare docks and the four views at work, for docs/images.

    tools/with_display.sh python tools/screenshots_explore.py docs/images [--size 1680x1050]
        [--voxel-size 2] [--only compare]

``explore.png``, ``sweep.png``, ``compare.png`` and ``four-views.png``, all of the digital head with
a haemorrhage and a calcification: no person is in them.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtWidgets import QApplication, QWidget
from skimage.io import imread, imsave

from napari_qsm.acquisition import Quantity
from napari_qsm.training.phantom import sample_head
from napari_qsm.widgets.window import (
    COMPARE,
    EXPLORE,
    RECONSTRUCT,
    Window,
    make_window,
    to_front,
)
from napari_qsm.workbench.layers import phantom_layers, quantity_of

PATIENCE = 900.0


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


def shoot(widget: QWidget, path: Path) -> None:
    """Take a picture of a window; opaque and with few greys, so that it is small."""
    rest(1.0)
    widget.grab().save(str(path))
    pixels = imread(path)[..., :3]
    imsave(path, pixels // 4 * 4, check_contrast=False)
    print(f"  {path}, {path.stat().st_size // 1024} KB", flush=True)


def open_head(window: Window, voxel_size: float) -> Layer:
    """Show the digital head, take its truth for the reference, and return the truth's layer."""
    head = sample_head("haemorrhage and calcification", voxel_size)
    for data in phantom_layers(head):
        window.viewer.add_layer(Layer.create(*data))
    dock = window.reconstruct
    rest(0.5)
    truth = next(x for x in window.viewer.layers if quantity_of(x) is Quantity.CHI)
    dock.inputs.roles["reference"].choose(truth)
    rest(0.3)
    wait(lambda: not dock.workbench.reason_not_to_run(), "the input check")
    return truth


def reconstruct(window: Window, key: str) -> None:
    """Press Reconstruct and wait."""
    dock, count = window.reconstruct, len(window.reconstruct.results)
    to_front(window.viewer, RECONSTRUCT)
    dock.workbench.choose_method(key)
    dock.run.button.click()
    wait(lambda: len(dock.results) == count + 1 and dock.layers.settled, key)
    print(f"  {dock.run.status.text()[:120]}", flush=True)


def show_only(window: Window, layers: list[Layer], *, grid: bool) -> None:
    """Show these layers and no others, in boxes of their own or on top of each other."""
    for layer in window.viewer.layers:
        layer.visible = layer in layers
    window.reconstruct.view.grid.setChecked(grid)
    window.viewer.fit_to_view()


def explore(window: Window, target: Path) -> None:
    """Drag the slider of TKD, then sweep TV and click the best point."""
    viewer, dock = window.viewer, window.explore
    to_front(viewer, EXPLORE)
    window.reconstruct.workbench.choose_method("tkd")
    slider, live = dock.panel.control.slider, dock.live.layer
    slider.setSliderDown(True)
    for position in range(400, 600, 20):
        slider.setSliderPosition(position)
        rest(0.05)
    slider.setSliderDown(False)
    wait(
        lambda: live.layer is not None and live.layer.metadata["qsm"].get("residual") is not None,
        "the live volume",
    )
    show_only(window, [live.layer], grid=False)
    shoot(viewer.window._qt_window, target / "explore.png")
    viewer.layers.remove(live.layer)

    window.reconstruct.workbench.choose_method("tv")
    panel = dock.sweep
    panel.run.button.click()
    wait(lambda: panel.sweeping is not None, "the sweep to begin")
    wait(lambda: panel.sweeping is None, "the sweep")
    panel.pick(int(np.nanargmin(panel.sweep.column("nrmse"))))
    wait(lambda: not dock.live.solver.running, "the live map")
    show_only(window, [panel.layer.layer], grid=False)
    shoot(viewer.window._qt_window, target / "sweep.png")
    viewer.layers.remove(panel.layer.layer)
    rest(0.3)


def compare(window: Window, truth: Layer, target: Path) -> None:
    """Hold three maps against the truth, and look at one place in all of them."""
    viewer = window.viewer
    for key in ("tkd+sigma", "tikhonov", "tv"):
        reconstruct(window, key)
    others = [x for x in viewer.layers if quantity_of(x) is Quantity.CHI and x is not truth]
    dock = to_front(viewer, COMPARE)
    dock.maps.tick([*others, truth])
    dock.scores.reference.choose(truth)
    wait(dock.scores.compute.isEnabled, "the reference")
    dock.scores.compute.click()
    wait(lambda: bool(dock.scores.scores), "the figures")
    shoot(viewer.window._qt_window, target / "compare.png")
    dock.show_views()
    wait(dock.open_views.isEnabled, "the four views")
    dock.views.show_map(others[0])  # the one with an uncertainty
    brightest = np.unravel_index(np.argmax(truth.data), truth.data.shape)
    dock.views.move_to(truth.data_to_world(brightest))
    shoot(dock.views, target / "four-views.png")


def main() -> int:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", default="1680x1050")
    parser.add_argument("--voxel-size", type=float, default=2.0)
    parser.add_argument("--only", choices=("explore", "compare"))
    asked = parser.parse_args()
    asked.target.mkdir(parents=True, exist_ok=True)
    window = make_window()
    window.viewer.window.resize(*(int(n) for n in asked.size.split("x")))
    rest(0.5)
    truth = open_head(window, asked.voxel_size)
    if asked.only != "compare":
        explore(window, asked.target)
    if asked.only != "explore":
        compare(window, truth, asked.target)
    sys.stdout.flush()
    # Nothing is left to be done, and Qt takes its time to come down.
    os._exit(0)


if __name__ == "__main__":
    napari.settings.get_settings()
    main()

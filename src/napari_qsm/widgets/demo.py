"""The demo: the digital head with a haemorrhage, reconstructed and shown as a user would see it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from rich.console import Console
from rich.table import Table

from napari_qsm.acquisition import Quantity
from napari_qsm.evaluation.metrics import nrmse
from napari_qsm.io.nifti import write_maps
from napari_qsm.training.phantom import Phantom, sample_head
from napari_qsm.widgets.window import RECONSTRUCT, make_window, to_front
from napari_qsm.workbench.layers import TRUTH, phantom_layers, quantity_of
from napari_qsm.workbench.placement import place, to_display

if TYPE_CHECKING:
    from napari_qsm.widgets.reconstruct import ReconstructWidget
    from napari_qsm.workbench.session import Result

VIRTUAL = "NAPARI_QSM_VIRTUAL_DISPLAY"
"""Set by ``tools/with_display.sh`` where nobody can see or close the window."""


def run_demo(output: Path) -> int:
    """Open the window, load the head, reconstruct with the default method, show the linked grid.

    On a virtual display the maps and a picture of the window are saved to `output` and the window
    is closed; on a real one it stays open until the user closes it.

    Returns
    -------
    int
        0 if the reconstruction succeeded, 1 if not.
    """
    phantom = sample_head("haemorrhage and calcification")
    viewer, _, dock, *_ = make_window()
    to_front(viewer, RECONSTRUCT)
    unattended = bool(os.environ.get(VIRTUAL))
    demo = Demo(viewer, dock, phantom, output if unattended else None)
    QTimer.singleShot(0, demo.begin)
    napari.run()
    return 0 if demo.done else 1


class Demo:
    """One run of the demo, step by step on the event loop of the window.

    Parameters
    ----------
    viewer, dock
        The window and its Reconstruct dock.
    phantom : Phantom
        What is reconstructed; its truth becomes the reference.
    output : Path or None
        Where to save maps and a picture before closing the window; None leaves it open.
    """

    def __init__(
        self, viewer: napari.Viewer, dock: ReconstructWidget, phantom: Phantom, output: Path | None
    ) -> None:
        self.done = False
        self._viewer, self._dock, self._phantom, self._output = viewer, dock, phantom, output
        dock.workbench.result_added.connect(self._show)

    def begin(self) -> None:
        """Show the head and start as soon as the input check allows it."""
        viewer, dock = self._viewer, self._dock
        viewer.window.resize(1600, 980)
        for data in phantom_layers(self._phantom):
            layer = viewer.add_layer(napari.layers.Layer.create(*data))
            # Four boxes are the linked grid at its best: chi, its error, its residual, the field.
            layer.visible = layer.visible and quantity_of(layer) is Quantity.LOCAL_FIELD
        dock.inputs.roles["reference"].choose(viewer.layers[TRUTH])
        viewer.dims.point = (self._lesion_centre()[0], *viewer.dims.point[1:])
        self._when(lambda: not dock.workbench.reason_not_to_run(), dock.start)

    def _when(self, ready: Callable[[], bool], then: Callable[[], Any]) -> None:
        if ready():
            then()
        else:
            QTimer.singleShot(50, lambda: self._when(ready, then))

    def _lesion_centre(self) -> tuple[float, ...]:
        grid = self._phantom.acquisition.grid
        inside = np.argwhere(to_display(self._phantom.regions["haemorrhage"], grid))
        placed = place(grid)
        return tuple(np.array(placed["translate"]) + inside.mean(0) * placed["scale"])

    def _show(self, result: Result) -> None:
        self.done = True
        _print_table(self._phantom, result)
        if self._output is not None:
            names = {f"{q.symbol}  {result.title}" for q in result.maps.volumes}
            self._when(lambda: names <= {x.name for x in self._viewer.layers}, self._save_soon)
            self._result = result

    def _save_soon(self) -> None:
        self._viewer.fit_to_view()
        QTimer.singleShot(1000, self._save)

    def _save(self) -> None:
        assert self._output is not None
        paths = write_maps(self._result.maps, self._output, overwrite=True)
        picture = self._output / "window.png"
        self._viewer.screenshot(str(picture), canvas_only=False, flash=False)
        Console().print(f"Saved {len(paths)} maps with their sidecars, and {picture}.")
        self._viewer.close()
        app = QApplication.instance()
        if app is not None:
            app.quit()


def _print_table(phantom: Phantom, result: Result) -> None:
    chi, truth = result.maps[Quantity.CHI], phantom.truth[Quantity.CHI]
    mask, lesion = phantom.acquisition.mask, phantom.regions["haemorrhage"]
    shift = float(truth[mask].mean() - chi[mask].mean())  # compare on one reference
    provenance = result.maps.provenance
    table = Table("method", "seconds", "NRMSE to truth", "haemorrhage found / true")
    table.add_row(
        provenance.method,
        f"{provenance.seconds:.1f}",
        f"{nrmse(chi, truth, mask):.1f} %",
        f"{chi[lesion].mean() + shift:.3f} / {truth[lesion].mean():.3f} ppm",
    )
    Console().print(table)

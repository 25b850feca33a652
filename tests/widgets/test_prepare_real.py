"""From a scanner's folder to susceptibility with a user's clicks."""

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from superqt.utils import WorkerBase

from napari_qsm.acquisition import Quantity
from napari_qsm.preparation.registry import Place
from napari_qsm.widgets.prepare import PrepareWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.workbench.layers import quantity_of

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "summary", "left_out"),
    [
        ("siemens-xa30-enhanced/In", "phase difference", {Place.OFFSET, Place.RELAXATION}),
        ("philips-2echo/In/enh", "2 echoes", {Place.RELAXATION}),
    ],
)
def test_a_folder_becomes_susceptibility_in_three_clicks(folder, summary, left_out, qtbot):
    pytest.importorskip("dcm2niix")
    if not (DATA / folder).is_dir():
        pytest.skip(f"the development data are not at {DATA}")
    viewer = ViewerModel()
    prepare, reconstruct = PrepareWidget(viewer), ReconstructWidget(viewer)
    for dock in (prepare, reconstruct):
        qtbot.addWidget(dock, before_close_func=lambda w: w.shut_down())
    reconstruct.workbench.choose_method("tkd")

    prepare.open([DATA / folder])
    qtbot.waitUntil(
        lambda: prepare.run.button.isEnabled() and not prepare.reader.job, timeout=60_000
    )
    assert summary in prepare.source.summary.text()
    prepare.run.button.click()
    qtbot.waitUntil(lambda: not prepare.runner.running, timeout=120_000)
    qtbot.waitUntil(lambda: reconstruct.run.button.isEnabled(), timeout=20_000)
    reconstruct.run.button.click()
    qtbot.waitUntil(lambda: len(reconstruct.results) == 1, timeout=60_000)
    qtbot.waitUntil(lambda: reconstruct.layers.settled, timeout=20_000)

    chi = next(layer for layer in viewer.layers if quantity_of(layer) is Quantity.CHI)
    ran = [place for place in Place if place not in left_out]
    told = chi.metadata["qsm"]["provenance"]
    assert [p.method for p in told.history] == [
        prepare.preparation.recipe.choice(place).use for place in ran
    ]
    reliable = viewer.layers["mask · after RESHARP"].data.astype(bool)
    assert 0.01 < np.std(chi.data[reliable]) < 1
    assert not chi.data[~reliable].any()
    for dock in (prepare, reconstruct):
        dock.shut_down()
    WorkerBase.await_workers(10_000)

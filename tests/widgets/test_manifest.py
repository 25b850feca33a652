"""The manifest is valid, light to import, and everything it names works in a real window."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_qsm.acquisition import Quantity
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.widgets import texts
from napari_qsm.widgets.contributions import get_reader
from napari_qsm.widgets.convention import set_convention
from napari_qsm.widgets.readout import ReadoutWidget
from napari_qsm.widgets.reconstruct import ReconstructWidget
from napari_qsm.widgets.view_panel import ViewPanel
from napari_qsm.workbench.layers import quantity_of

ROOT = Path(__file__).parents[2]


def test_the_manifest_is_valid_and_linked_at_the_top():
    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    assert manifest.name == "napari-qsm"
    assert (ROOT / "napari.yaml").resolve() == ROOT / "src/napari_qsm/napari.yaml"


@pytest.mark.parametrize("module", ["napari_qsm", "napari_qsm.widgets.contributions"])
def test_start_up_loads_neither_torch_nor_qt(module):
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'qtpy', 'napari') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_reader_takes_nifti_only():
    assert get_reader("x.nii.gz") is get_reader(["a.nii", "b.nii.gz"]) is not None
    assert get_reader("x.tif") is None


def test_the_reader_takes_folders_of_images_only(tmp_path):
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert get_reader(str(tmp_path)) is None
    inside = tmp_path / "series" / "0001"
    inside.parent.mkdir()
    inside.write_bytes(bytes(128) + b"DICM" + bytes(20))
    assert get_reader(str(tmp_path)) is not None


def raw_folder(folder, grid):
    rng = np.random.default_rng(0)
    for echo in (1, 2):
        sidecar = {"EchoTime": 0.004 * echo, "MagneticFieldStrength": 3.0}
        for part, high in (("phase", np.pi), ("mag", 1.0)):
            values = rng.uniform(-np.pi if part == "phase" else 0.5, high, grid.shape)
            path = folder / f"sub-1_echo-{echo}_part-{part}_MEGRE.nii.gz"
            write_volume(path, values.astype(np.float32), grid, sidecar)


@pytest.mark.window
def test_a_folder_opens_in_the_prepare_dock(make_napari_viewer, tmp_path, grid, qtbot):
    raw_folder(tmp_path, grid)
    viewer = make_napari_viewer()
    assert viewer.open(str(tmp_path), plugin="napari-qsm") == []
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Prepare field")
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=20_000)
    qtbot.waitUntil(lambda: dock.layers.settled and len(viewer.layers) == 2, timeout=20_000)
    assert len(dock.preparation.measured.echo_times) == 2
    assert viewer.layers[0].data.ndim == 4
    dock.shut_down()


@pytest.mark.window
def test_the_raw_head_opens_ready_to_be_prepared(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-qsm", "raw-small")
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Prepare field")
    qtbot.waitUntil(lambda: dock.preparation.measured is not None, timeout=60_000)
    qtbot.waitUntil(lambda: dock.run.button.isEnabled(), timeout=20_000)
    assert not any(f.severity == "error" for f in dock._found)
    dock.shut_down()


@pytest.mark.window
def test_docks_reader_and_writer_in_a_real_window(make_napari_viewer_proxy, tmp_path, grid, qtbot):
    path = tmp_path / "localfield.nii.gz"
    field = np.random.default_rng(0).normal(0, 0.01, grid.shape).astype(np.float32)
    write_volume(path, field, grid, {"Units": "ppm", "MagneticFieldStrength": 3.0})
    viewer = make_napari_viewer_proxy()
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Reconstruct susceptibility")
    _, readout = viewer.window.add_plugin_dock_widget("napari-qsm", "Values at the cursor")
    viewer.open(str(path), plugin="napari-qsm")
    qtbot.waitUntil(lambda: dock.workbench.inputs.field is not None, timeout=5000)
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=5000)
    layer = viewer.layers[0]
    assert quantity_of(layer) is Quantity.LOCAL_FIELD
    saved = viewer.layers.save(str(tmp_path / "again.nii.gz"), plugin="napari-qsm")
    assert len(saved) == 1
    again = read_volume(saved[0])
    assert np.array_equal(again.data, field)
    assert np.array_equal(again.grid.affine, grid.affine)
    assert isinstance(dock, ReconstructWidget)
    assert isinstance(readout, ReadoutWidget)
    dock.shut_down()


@pytest.mark.window
def test_the_sample_head_opens_ready_to_reconstruct(make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy()
    _, dock = viewer.window.add_plugin_dock_widget("napari-qsm", "Reconstruct susceptibility")
    viewer.open_sample("napari-qsm", "haemorrhage-small")
    qtbot.waitUntil(lambda: dock.workbench.inputs.magnitude is not None, timeout=20_000)
    qtbot.waitUntil(lambda: not dock.workbench.reason_not_to_run(), timeout=20_000)
    assert dock.inputs.roles["mask"].layer is not None
    assert not any(f.severity == "error" for f in dock.workbench.understanding.findings)
    dock.shut_down()


@pytest.mark.parametrize("convention", [texts.RADIOLOGICAL, texts.NEUROLOGICAL])
def test_both_conventions_are_left_handed_like_the_data(viewer, convention):
    """(S, A, R) is left-handed; a right-handed camera shows a mirrored brain in 3D."""
    set_convention(viewer, convention)
    camera = viewer.scene.camera
    assert camera.handedness == "left"
    assert texts.RESEARCH_ONLY in viewer.canvas.overlays.text.text
    right = (
        camera.orientation[2].value
        if hasattr(camera.orientation[2], "value")
        else camera.orientation[2]
    )
    assert right == ("left" if convention == texts.RADIOLOGICAL else "right")


def test_signed_maps_change_their_look_in_3d_and_get_it_back(viewer, add, brain, qtbot):
    panel = ViewPanel(viewer)
    qtbot.addWidget(panel)
    chi = add(viewer, np.where(brain, 0.1, 0.0), Quantity.CHI)
    before = (chi.contrast_limits, chi.colormap, chi.rendering)
    viewer.dims.ndisplay = 3
    assert chi.contrast_limits[0] == 0
    assert chi.rendering == "mip"
    viewer.dims.ndisplay = 2
    assert (chi.contrast_limits, chi.colormap, chi.rendering) == before
    panel.disconnect_viewer()

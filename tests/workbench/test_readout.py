"""The readout names the right voxel, the true mm, and every map's value in its unit."""

import numpy as np
import pytest
from napari.layers import Image, Layer

from napari_qsm.acquisition import Grid, Quantity, Volume
from napari_qsm.workbench.layers import layer_data
from napari_qsm.workbench.placement import place
from napari_qsm.workbench.readout import read_at

TILT = np.radians(20)
AFFINE = np.array(
    [
        [-1.0, 0, 0, 10],
        [0, np.cos(TILT), -2 * np.sin(TILT), -20],
        [0, np.sin(TILT), 2 * np.cos(TILT), 30],
        [0, 0, 0, 1],
    ]
)
GRID = Grid((6, 7, 8), AFFINE)
CHI = np.arange(6 * 7 * 8, dtype=np.float32).reshape(GRID.shape)


def layers():
    for quantity, factor in ((Quantity.LOCAL_FIELD, 0.1), (Quantity.CHI, 1.0)):
        volume = Volume(CHI * factor, GRID, "ppm")
        yield Layer.create(*layer_data(volume, quantity, quantity.key))
    yield Image(np.zeros((3, 3, 3)), name="foreign")


def test_values_mm_and_voxel_belong_together():
    made = list(layers())
    placed = place(GRID)
    drawn = np.array(placed["translate"]) + np.array(placed["scale"]) * (2, 3, 1)
    readout = read_at(made, drawn)
    assert [r.name for r in readout.readings] == [
        "chi",
        "local_field",
    ]  # top first, foreign left out
    chi, field = readout.readings
    assert chi.value == CHI[readout.voxel]
    assert field.value == pytest.approx(0.1 * chi.value)
    assert chi.unit == "ppm"
    # The true affine, not the de-obliqued drawing, says where the voxel lies.
    assert np.allclose(readout.position, (AFFINE @ (*readout.voxel, 1))[:3])


def test_nothing_lies_outside():
    assert read_at(list(layers()), (-500.0, 0, 0)) is None


def test_of_several_echoes_the_one_on_show_is_read():
    echoes = np.stack([CHI, CHI + 1000], axis=-1)
    layer = Layer.create(*layer_data(Volume(echoes, GRID, "rad"), Quantity.PHASE, "phase"))
    placed = place(GRID)
    drawn = np.array(placed["translate"]) + np.array(placed["scale"]) * (2, 3, 1)
    both = [layer, next(layers())]
    first, second = (read_at(both, (echo, *drawn)) for echo in (0, 1))
    assert second.readings[1].value == first.readings[1].value + 1000
    assert second.readings[0] == first.readings[0]  # a map without echoes is there for all
    assert read_at(both, drawn).readings == first.readings

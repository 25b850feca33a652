"""Volumes become layers and layers become volumes again without losing a voxel or a millimetre."""

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_qsm.acquisition import Grid, InputError, Maps, Provenance, Quantity, Volume
from napari_qsm.workbench.layers import (
    dress,
    file_layers,
    guess_quantity,
    layer_data,
    map_layers,
    quantity_of,
    stored_layer,
    volume_of,
)

AFFINE = np.array([[0, 0, 2.0, -7], [-1, 0, 0, 5], [0, 1.5, 0, 3], [0, 0, 0, 1]])
GRID = Grid((5, 6, 7), AFFINE)
RNG = np.random.default_rng(0)
FIELD = RNG.normal(0, 0.01, GRID.shape).astype(np.float32)


def make(quantity, data=FIELD, grid=GRID):
    volume = Volume(data, grid, quantity.unit, 3.0, (0.02,), "somewhere.nii")
    return Layer.create(*layer_data(volume, quantity, quantity.label))


@pytest.mark.parametrize("quantity", list(Quantity))
def test_every_quantity_can_be_shown(quantity):
    layer = make(quantity, (FIELD > 0) if quantity is Quantity.MASK else FIELD)
    dress(layer)
    assert quantity_of(layer) is quantity
    if quantity.window and isinstance(layer, Image):
        assert tuple(layer.contrast_limits) == pytest.approx(quantity.window)


def test_a_layer_gives_back_exactly_what_was_measured():
    volume = volume_of(make(Quantity.LOCAL_FIELD))
    assert np.array_equal(volume.data, FIELD)
    assert np.array_equal(volume.grid.affine, AFFINE)
    assert (volume.unit, volume.field_strength, volume.echo_times) == ("ppm", 3.0, (0.02,))


ECHOES = np.stack([FIELD + k for k in range(3)], axis=-1)


def test_echoes_are_one_layer_with_an_axis_in_front_and_come_back_as_stored():
    (data,) = file_layers(Path("sub-1_part-phase_MEGRE.nii.gz"), Volume(ECHOES, GRID, "rad"))
    layer = Layer.create(*data)
    assert layer.data.shape == (3, *make(Quantity.CHI).data.shape)
    assert layer.axis_labels == ("echo", "S", "A", "R")
    assert tuple(map(str, layer.units)) == ("pixel", "millimeter", "millimeter", "millimeter")
    flat = make(Quantity.CHI)
    assert np.array_equal(layer.scale, (1, *flat.scale))
    assert np.array_equal(layer.translate, (0, *flat.translate))
    assert np.array_equal(layer.data[1], flat.data + 1)
    assert np.array_equal(volume_of(layer).data, ECHOES)
    assert np.shares_memory(volume_of(layer).data, ECHOES)
    array, _, _ = stored_layer(*data[:2])
    assert np.array_equal(array, ECHOES)


def test_a_mask_painted_beside_echoes_lies_on_their_grid():
    data = layer_data(Volume(ECHOES, GRID), Quantity.PHASE, "phase")
    beside = Layer.create(*data)
    on_all = Labels(
        np.ones(beside.data.shape, np.uint8), scale=beside.scale, translate=beside.translate
    )
    on_one = Labels(on_all.data[0], scale=beside.scale[1:], translate=beside.translate[1:])
    for painted in (on_all, on_one):
        volume = volume_of(painted, beside)
        assert np.array_equal(volume.grid.affine, AFFINE)
        assert volume.data.shape[:3] == GRID.shape


def test_how_numbers_came_to_be_travels_with_their_layer():
    history = (Provenance("resharp"),)
    data = layer_data(Volume(FIELD, GRID, "ppm", history=history), Quantity.LOCAL_FIELD, "f")
    assert volume_of(Layer.create(*data)).history == history


def test_painting_on_a_mask_layer_leaves_the_loaded_mask_alone():
    mask = FIELD > 0
    layer = make(Quantity.MASK, mask)
    before = mask.copy()
    layer.data[:] = 1
    assert np.array_equal(mask, before)
    assert volume_of(layer).data.all()


def test_nan_is_not_drawn_and_not_hidden_from_the_data():
    data = FIELD.copy()
    data[0, 0, 0] = np.nan
    layer = make(Quantity.LOCAL_FIELD, data)
    assert np.isfinite(layer.data).all()
    assert np.isnan(data[0, 0, 0])


def test_the_contrast_slider_reaches_the_strongest_voxel():
    data = FIELD.copy()
    data[2, 2, 2] = 1.3
    layer = make(Quantity.CHI, data)
    dress(layer)
    assert layer.contrast_limits_range[1] == pytest.approx(1.3)
    assert tuple(layer.contrast_limits) == Quantity.CHI.window


def test_a_new_labels_layer_beside_the_field_lies_on_its_grid():
    field = make(Quantity.LOCAL_FIELD)
    painted = Labels(
        np.ones(field.data.shape, np.uint8), scale=field.scale, translate=field.translate
    )
    assert np.array_equal(volume_of(painted, beside=field).grid.affine, AFFINE)


def test_a_foreign_layer_is_taken_as_drawn_with_a_note():
    volume = volume_of(Image(np.zeros((3, 4, 5)), scale=(2, 1, 1), translate=(10, 20, 30)))
    assert "no scanner geometry" in volume.notes[0]
    assert np.allclose(volume.grid.affine @ (0, 0, 0, 1), (30, 20, 10, 1))
    assert np.allclose(volume.grid.affine @ (1, 0, 0, 1), (30, 20, 12, 1))
    assert volume.grid.b0_direction == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "layer",
    [
        Image(np.zeros((3, 4, 5)), rotate=np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])),
        Image(np.zeros((3, 4, 5)), scale=(1, 1, -1)),
        Image(np.zeros((4, 5))),
    ],
)
def test_foreign_layers_that_cannot_be_placed_are_refused_in_a_sentence(layer):
    with pytest.raises(InputError, match=r"\.$"):
        volume_of(layer)


def test_maps_come_with_susceptibility_last_and_their_provenance():
    maps = Maps(GRID, {Quantity.CHI: FIELD, Quantity.RESIDUAL: FIELD})
    layers = list(map_layers(maps, "TV #1"))
    assert [d[1]["metadata"]["qsm"]["quantity"] for d in layers] == ["residual", "chi"]
    assert all("TV #1" in d[1]["name"] for d in layers)


def test_a_writer_gets_the_stored_array_back():
    data, keywords, _ = layer_data(Volume(FIELD, GRID), Quantity.CHI, "chi")
    array, grid, sidecar = stored_layer(data, keywords)
    assert np.array_equal(array, FIELD)
    assert np.array_equal(grid.affine, AFFINE)
    assert sidecar["Units"] == "ppm"


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("sub-1_part-mag_MEGRE.nii.gz", Quantity.MAGNITUDE),
        ("sub-1_part-phase_MEGRE.nii.gz", Quantity.PHASE),
        ("localfield.nii.gz", Quantity.LOCAL_FIELD),
        ("brain_mask.nii", Quantity.MASK),
        ("slab-1_cosmos.nii.gz", Quantity.CHI),
        ("sub-1_Chimap.nii.gz", Quantity.CHI),
        ("sub-1_desc-paramagnetic_Chimap.nii.gz", Quantity.CHI_POS),
        ("sub-1_desc-residual_fieldmap.nii.gz", Quantity.RESIDUAL),
        ("Mag.nii.gz", Quantity.MAGNITUDE),
        ("T1w.nii.gz", None),
    ],
)
def test_names_tell_what_files_hold(name, quantity):
    assert guess_quantity(Path(name), Volume(FIELD, GRID)) is quantity


def test_ones_and_zeros_are_a_mask_whatever_the_name():
    assert guess_quantity(Path("x.nii"), Volume(FIELD > 0, GRID)) is Quantity.MASK

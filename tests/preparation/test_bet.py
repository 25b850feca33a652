"""BET on heads that are known: the mesh, what it encloses, and what it comes to rest at."""

from functools import cache

import nibabel
import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation.bet_mesh import Mesh, winding
from napari_qsm.preparation.registry import find

RADII = (58.0, 68.0, 54.0)
"""Of the brain, in mm."""

SIZE = (2.5, 2.5, 2.5)
"""Of a voxel, in mm."""


def masked(magnitude, affine, **settings):
    times = tuple(0.004 * (1 + n) for n in range(magnitude.shape[3] if magnitude.ndim == 4 else 1))
    measured = Acquisition(
        Grid(magnitude.shape[:3], affine), {Quantity.MAGNITUDE: magnitude}, 3.0, times
    )
    stage = find("bet")
    return finished(stage(measured, stage.with_settings(settings)))


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def places(shape, size):
    """Coordinates in mm from the middle of the volume."""
    return np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, size, strict=True)],
        indexing="ij",
    )


@cache
def head(size=SIZE, coils=0.0, neck=True):
    """An ellipsoid of brain in dark bone and bright scalp, on a neck; its mask and its affine."""
    shape = tuple(round(190 / s) for s in size)
    x, y, z = places(shape, size)

    def within(margin):
        a, b, c = (r + margin for r in RADII)
        return (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2 < 1

    brain = within(0)
    signal = np.where(within(12), 1.4, 0.0)
    signal = np.where(within(6), 0.1, signal)
    if neck:  # as bright as brain, joined to it by a canal
        below = z < -RADII[2] * 0.5
        signal = np.where(below & ~within(6) & (x**2 + y**2 < 45**2), 0.9, signal)
        signal = np.where(below & ~brain & (x**2 + y**2 < 9**2), 0.9, signal)
    signal = np.where(brain, 1.0, signal)
    signal = signal * np.exp(coils * (x**2 + y**2 + z**2 + 60 * x) / 70**2)
    noise = np.random.default_rng(0).standard_normal((2, *shape)) * 0.02
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32), brain, np.diag([*size, 1.0])


@cache
def found(size, coils):
    magnitude, _, affine = head(size, coils)
    return masked(magnitude, affine)


@pytest.mark.parametrize("subdivisions", [0, 1, 3])
def test_the_mesh_is_a_closed_sphere(subdivisions):
    mesh, vertices = Mesh.sphere(subdivisions)
    assert len(vertices) == 10 * 4**subdivisions + 2
    assert len(mesh.faces) == 2 * len(vertices) - 4  # Euler: no handle, no border
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1)
    edges = np.concatenate([mesh.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    forward, backward = ({tuple(e) for e in edges[:, order]} for order in ([0, 1], [1, 0]))
    assert forward == backward
    assert len(forward) == len(edges)
    assert (np.einsum("ij,ij->i", mesh.normals(vertices), vertices) > 0.98).all()


def test_the_mean_of_neighbours_keeps_what_is_straight():
    mesh, vertices = Mesh.sphere(2)
    np.testing.assert_allclose(mesh.neighbours_mean(np.ones_like(vertices)), 1)
    flat = vertices @ np.diag([1, 1, 0])
    assert np.abs(mesh.neighbours_mean(flat)[:, 2]).max() == 0
    assert mesh.edge_length(3 * vertices) == pytest.approx(3 * mesh.edge_length(vertices))


@pytest.mark.parametrize("centre", [(20, 20, 20), (20.37, 19.5, 21.2), (0, 20, 20), (20, 20, 39)])
def test_winding_is_what_lies_inside(centre):
    """Also where the sphere leaves the volume, whose corners and edges lie on voxel centres."""
    mesh, vertices = Mesh.sphere(4)
    turns = finished(winding(mesh.faces, 15.2 * vertices + centre, (40, 40, 40)))
    x, y, z = np.indices((40, 40, 40)) - np.reshape(centre, (3, 1, 1, 1))
    distance = np.sqrt(x**2 + y**2 + z**2)
    assert set(np.unique(turns)) == {0, 1}
    assert (turns[distance < 15.1] == 1).all()
    assert (turns[distance > 15.2] == 0).all()


def test_winding_tells_of_doubled_and_reversed_surfaces():
    mesh, vertices = Mesh.sphere(2)
    inner, outer = 4 * vertices + 10, 8 * vertices + 10
    both = np.concatenate([mesh.faces, mesh.faces + len(vertices)])
    turns = finished(winding(both, np.concatenate([inner, outer]), (20, 20, 20)))
    assert turns[10, 10, 10] == 2
    assert turns[10, 10, 16] == 1
    assert turns[0, 0, 0] == 0
    reversed_ = finished(winding(mesh.faces[:, ::-1], outer, (20, 20, 20)))
    assert reversed_[10, 10, 10] == -1


@pytest.mark.parametrize(("size", "coils"), [(SIZE, 0.0), ((1.8, 2.2, 3.5), 0.0), (SIZE, 0.7)])
def test_the_brain_is_found_and_nothing_else(size, coils):
    """Coils make the scalp up to five times as bright as the middle; the neck hangs on a canal."""
    _, brain, _ = head(size, coils)
    mask = found(size, coils)[Quantity.MASK]
    assert dice(mask, brain) > 0.97


def test_it_is_the_same_every_time_and_whatever_the_unit():
    magnitude, _, affine = head()
    again = masked(magnitude * np.float32(1024), affine)
    np.testing.assert_array_equal(again[Quantity.MASK], found(SIZE, 0.0)[Quantity.MASK])


def test_it_moves_with_the_head():
    magnitude, _, affine = head()
    moved = masked(np.roll(magnitude, (3, -2), axis=(0, 1)), affine)[Quantity.MASK]
    assert dice(np.roll(found(SIZE, 0.0)[Quantity.MASK], (3, -2), axis=(0, 1)), moved) > 0.99


def test_echoes_are_combined_and_said():
    magnitude, brain, affine = head(neck=False)
    maps = masked(np.stack([magnitude, 0.5 * magnitude], axis=-1), affine, margin=-2.5)
    assert maps[Quantity.MASK].sum() < 0.95 * brain.sum()
    assert "root sum of squares of 2 magnitudes" in maps.provenance.notes[0]
    assert any("-2.5 mm" in note for note in maps.provenance.notes)


def test_a_bleeding_without_signal_stays_in_the_mask():
    """30 mm wide and 6 mm under the surface: the field around it is what is looked for."""
    magnitude, brain, affine = head(neck=False)
    x, y, z = places(magnitude.shape, (2.5, 2.5, 2.5))
    bleeding = (x - 37) ** 2 + y**2 + z**2 < 15**2
    assert (brain | ~bleeding).all()
    mask = masked(np.where(bleeding, np.float32(0.01), magnitude), affine)[Quantity.MASK]
    assert mask[bleeding].all()
    assert dice(mask, brain) > 0.97


def test_the_threshold_rises_towards_the_top_with_the_gradient():
    x, y, z = places((44, 44, 44), (3.0, 3.0, 3.0))
    radius = np.sqrt(x**2 + y**2 + z**2)
    magnitude = np.clip((55 - radius) / 25, 0, 1).astype(np.float32)
    for turned in (np.diag([3.0, 3, 3, 1]), np.diag([3.0, 3, -3, 1])):
        mask = masked(magnitude, turned, gradient=0.4)[Quantity.MASK]
        above = z * np.sign(turned[2, 2]) > 0
        assert mask[above].sum() < 0.95 * mask[~above].sum()


def test_a_slab_is_filled_to_its_ends():
    magnitude, brain, affine = head(neck=False)
    cut = slice(28, 46)
    mask = masked(np.ascontiguousarray(magnitude[:, :, cut]), affine)[Quantity.MASK]
    assert dice(mask, brain[:, :, cut]) > 0.97
    for end in (0, -1):
        assert dice(mask[..., end], brain[:, :, cut][..., end]) > 0.95


def test_a_cut_out_without_air_says_what_was_done():
    magnitude, _, affine = head()
    inside = np.ascontiguousarray(magnitude[28:48, 28:48, 28:48])
    maps = masked(inside, affine)
    assert maps[Quantity.MASK].all()
    assert "no air around the head" in maps.provenance.notes[0]
    assert "'threshold'" in maps.provenance.notes[0]


def test_what_is_no_head_is_a_sentence():
    with pytest.raises(InputError, match="same everywhere"):
        masked(np.zeros((12, 12, 12), np.float32), np.eye(4))
    signed = np.random.default_rng(0).standard_normal((12, 12, 12)).astype(np.float32)
    with pytest.raises(InputError, match="not the phase"):
        masked(signed, np.eye(4))


@pytest.mark.parametrize(("thickness", "said"), [(5, "thick as a brain"), (8, "an empty mask")])
def test_a_skin_without_a_brain_is_a_sentence(thickness, said):
    x, y, z = places((40, 40, 40), (4.0, 4.0, 4.0))
    skin = np.abs(np.sqrt(x**2 + y**2 + z**2) - 70) < thickness / 2
    with pytest.raises(InputError, match=said):
        masked(skin.astype(np.float32), np.diag([4.0, 4, 4, 1]))


def test_an_unusual_volume_is_said():
    small = np.ascontiguousarray(head(neck=False)[0][::2, ::2, ::2])
    maps = masked(small, np.eye(4))
    assert any("litres" in note and "look at the mask" in note for note in maps.provenance.notes)


@pytest.mark.shared
@pytest.mark.parametrize(
    "names",
    [
        [f"philips-2echo/Ref/2001_WIP_fcMRI_Field_Mapping_enh_e{e}.nii.gz" for e in (1, 2)],
        [f"siemens-xa30-enhanced/Ref/8_gre_field_mapping_e{e}.nii" for e in (1, 2)],
    ],
    ids=["philips", "siemens"],
)
def test_a_measured_brain_has_the_size_of_one(shared_data, names):
    images = [nibabel.load(shared_data / name) for name in names]
    magnitude = np.stack([image.get_fdata(dtype=np.float32) for image in images], axis=-1)
    maps = masked(magnitude, images[0].affine)
    mask = maps[Quantity.MASK]
    litres = mask.sum() * np.prod(maps.grid.voxel_size) / 1e6
    assert 1.1 < litres < 1.8
    assert len(maps.provenance.notes) == 1

"""The doctor speaks up about what is wrong and is silent about a healthy head."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, Quantity
from napari_qsm.io.nifti import read_volume
from napari_qsm.preparation.assemble import assemble
from napari_qsm.preparation.checks import Finding, inspect

SHAPE = (40, 44, 48)


def head(shape=SHAPE):
    """An ellipsoid that leaves a margin on every side."""
    axes = [np.linspace(-1.2, 1.2, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 1


def acquisition(values=None, mask=None, affine=None, *, magnitude=None, b0=None, notes=(), te=3.0):
    mask = head() if mask is None else mask
    if values is None:
        values = np.random.default_rng(0).normal(0, 0.015, mask.shape)
    grid = Grid(mask.shape, np.eye(4) if affine is None else affine)
    volumes = {Quantity.LOCAL_FIELD: values * mask, Quantity.MASK: mask}
    if magnitude is not None:
        volumes[Quantity.MAGNITUDE] = magnitude
    return Acquisition(grid if b0 is None else grid.with_b0(b0), volumes, te, notes=notes)


def texts(severity, made):
    return [f.text for f in inspect(made) if f.severity == severity]


def only_warning(made):
    (text,) = texts("warning", made)
    assert text.endswith(".")
    return text


def test_a_healthy_head_gives_no_finding():
    assert inspect(acquisition(magnitude=np.ones(SHAPE))) == ()


@pytest.mark.shared
def test_the_patient_gives_no_warning(shared_data):
    folder = shared_data / "haemorrhage-patient"
    made = assemble(read_volume(folder / "localfield.nii.gz"), read_volume(folder / "mask.nii.gz"))
    assert inspect(made) == ()


@pytest.mark.shared
def test_the_healthy_slabs_are_only_said_to_be_cut_off(shared_data):
    for slab in ("slab-1", "slab-2"):
        base = shared_data / "invivo-cosmos"
        field, mask = (read_volume(base / f"{slab}_{n}.nii.gz") for n in ("localfield", "mask"))
        assert "edge of the volume" in only_warning(assemble(field, mask))


def test_the_acquisitions_notes_come_last():
    findings = inspect(acquisition(notes=("Something was assumed.",), te=None))
    assert findings[0].text.startswith("B0 is not known")
    assert findings[-1] == Finding("note", "Something was assumed.")


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1, 1, 5, 1.0]), "more than 4 times"),
        (np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared by 5.7"),
        (np.diag([0.4, 0.4, 0.4, 1]), "16 mm thick"),
    ],
)
def test_strange_grids_are_warned_of(affine, words):
    assert words in only_warning(acquisition(affine=affine))


def test_thin_slabs_are_warned_of():
    assert "12 voxels" in only_warning(
        acquisition(mask=head((40, 44, 12)), affine=np.diag([3, 3, 3, 1.0]))
    )


def test_impossible_voxels_are_an_error():
    (error,) = texts("error", acquisition(affine=np.diag([1000, 1000, 1000, 1.0])))
    assert "repair the header" in error


def test_a_strongly_oblique_b0_is_noted():
    assert "45 degrees" in texts("note", acquisition(b0=(0, 1, 1)))[0]


def test_strange_masks_are_warned_of():
    everything, speck = np.ones(SHAPE, bool), np.zeros(SHAPE, bool)
    speck[20:26, 20:26, 20:26] = True
    cut = np.roll(head(), 8, axis=0)
    hollow = head()
    hollow[15:25, 15:25, 15:25] = False
    assert "covers 100.0%" in only_warning(acquisition(mask=everything))
    assert "covers 0.3%" in only_warning(acquisition(mask=speck))
    assert "on 2 of 6 sides" in only_warning(acquisition(mask=cut))
    assert "holes of 1000 voxels" in only_warning(acquisition(mask=hollow))


def test_small_holes_are_noted_only():
    mask = head()
    mask[18:22, 18:22, 18:22] = False
    assert "holes of 64" in texts("note", acquisition(mask=mask))[0]
    assert not texts("warning", acquisition(mask=mask))


def test_a_missing_mask_is_warned_of():
    made = Acquisition(
        Grid(SHAPE, np.eye(4)), {Quantity.LOCAL_FIELD: acquisition()[Quantity.LOCAL_FIELD]}
    )
    assert any("no mask" in text for text in texts("warning", made))


def test_strange_fields_are_warned_of():
    noise = np.random.default_rng(0).normal(0, 1, SHAPE)
    ramp = np.indices(SHAPE)[2] * 0.03
    wrapped = (ramp + 0.25) % 0.5 - 0.25
    haemorrhage = 0.015 * noise
    haemorrhage[20:22, 20:22, 20:22] = 0.8
    assert "wrapped phase" in only_warning(acquisition(wrapped))
    assert "background was removed" in only_warning(acquisition(0.3 * noise))
    assert "varies by only" in only_warning(acquisition(1e-4 * noise))
    assert "mean of 0.0999" in only_warning(acquisition(0.015 * noise + 0.1))
    assert "(0.8 ppm" in only_warning(acquisition(haemorrhage))


def test_magnitudes_without_signal_are_reported():
    half, few = np.ones(SHAPE), np.ones(SHAPE)
    half[:20] = 0
    few[20, 20] = 0
    assert "not positive" in only_warning(acquisition(magnitude=half))
    assert "no weight" in texts("note", acquisition(magnitude=few))[0]

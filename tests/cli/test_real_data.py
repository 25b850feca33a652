"""From the scanner's files to susceptibility with one command, on the development data."""

import nibabel as nib
import numpy as np
import pytest

pytestmark = pytest.mark.shared

FORMS = {
    "classic": ("In/cl", ()),
    "enhanced": ("In/enh", ()),
    "NIfTI": ("Ref", ("--select", "2001_fcMRI_Field_Mapping")),
}


@pytest.fixture(scope="module")
def forms(shared_data, tmp_path_factory):
    """Folders of what one command made of one head in three formats."""
    from typer.testing import CliRunner

    from napari_qsm.cli import app

    folder = tmp_path_factory.mktemp("philips")
    for name, (path, more) in FORMS.items():
        source = shared_data / "philips-2echo" / path
        words = ("run", source, "-o", folder / name, "--stem", "x", "--device", "cpu", *more)
        result = CliRunner().invoke(app, [str(word) for word in (*words, "--method", "tkd")])
        assert (result.exit_code, result.stderr) == (0, "")
    return folder


def loaded(folder, name):
    image = nib.as_closest_canonical(nib.load(folder / f"x_{name}.nii.gz"))
    return image, image.get_fdata()


@pytest.mark.parametrize("form", ["classic", "NIfTI"])
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("desc-brain_mask", 0),
        ("desc-total_fieldmap", 1e-4),
        ("desc-local_fieldmap", 1e-4),
        ("desc-reliable_mask", 0),
        ("Chimap", 1e-3),
    ],
)
def test_one_head_in_three_formats_gives_one_field(forms, form, name, limit):
    (image, values), (other, others) = loaded(forms / "enhanced", name), loaded(forms / form, name)
    assert np.abs(image.affine - other.affine).max() < 1e-3
    assert np.abs(values - others).max() <= limit
    assert values.any()


def test_the_field_is_that_of_a_head(forms):
    _, mask = loaded(forms / "enhanced", "desc-reliable_mask")
    _, local = loaded(forms / "enhanced", "desc-local_fieldmap")
    _, total = loaded(forms / "enhanced", "desc-total_fieldmap")
    inside = mask > 0
    assert 0.7e6 < inside.sum() * 27 < 2.2e6  # mm^3
    assert 0.005 < local[inside].std() < 0.05
    assert local[inside].std() < total[inside].std() / 2
    assert not local[~inside].any()

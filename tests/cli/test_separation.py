"""Iron and myelin apart on the command line, and how maps follow a lesion."""

import csv
import json

import numpy as np
import pytest

from napari_qsm.acquisition import Grid, Quantity
from napari_qsm.io.nifti import read_volume, write_volume
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.preparation.r2prime import NOMINAL_R2

SHAPE = (16, 18, 14)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
DR = 114.0
TKD = ("--set", "inversion=tkd", "--device", "cpu")


@pytest.fixture
def head(tmp_path):
    """Files of a little head with a lesion: field, mask, rates and the lesion's label."""
    import torch

    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 0.9
    lesion = sum((a - 0.1) ** 2 for a in axes) < 0.12
    pos = (0.01 * mask + 0.2 * lesion).astype("f4")
    neg = (0.02 * mask * (axes[0] < 0)).astype("f4")
    field = DipoleConvolution(GRID)(torch.from_numpy(pos - neg)).numpy() * mask
    rate = (DR * (pos + neg)).astype("f4")
    files = {
        "field": (field, "ppm"),
        "mask": (mask.astype("u1"), ""),
        "r2prime": (rate, "1/s"),
        "r2prime_ms": (rate / 1000, "1/ms"),
        "r2star": ((rate + NOMINAL_R2) * mask, ""),
        "r2star_measured": ((rate + 16) * mask, ""),
        "r2": ((16 * mask).astype("f4"), ""),
        "region": ((3 * lesion).astype("u1"), ""),
    }
    for name, (data, unit) in files.items():
        stated = {"MagneticFieldStrength": 3.0} | ({"Units": unit} if unit else {})
        write_volume(tmp_path / f"{name}.nii.gz", data, GRID, stated)
    return tmp_path


@pytest.fixture
def separate(run, head):
    def invoke(*rates, output="out", command="reconstruct", method="closed_form", more=TKD):
        given = [w for name, file in rates for w in (f"--{name}", head / f"{file}.nii.gz")]
        fixed = ("--mask", head / "mask.nii.gz", "--method", method, "-o", head / output)
        return run(command, head / "field.nii.gz", *fixed, *given, *more)

    return invoke


def test_both_kinds_and_both_residuals_are_written_as_derivatives(separate, head):
    result = separate(("r2prime", "r2prime"))
    assert result.exit_code == 0, result.output
    written = {path.name for path in (head / "out").glob("*.nii.gz")}
    assert written == {
        "Chimap.nii.gz",
        "desc-paramagnetic_Chimap.nii.gz",
        "desc-diamagnetic_Chimap.nii.gz",
        "desc-residual_fieldmap.nii.gz",
        "desc-residual_R2primemap.nii.gz",
    }
    pos, neg = (
        read_volume(head / "out" / f"desc-{name}_Chimap.nii.gz").data
        for name in ("paramagnetic", "diamagnetic")
    )
    assert pos.min() >= 0
    assert neg.min() >= 0
    chi = read_volume(head / "out" / "Chimap.nii.gz").data
    assert np.allclose(chi, pos - neg, atol=1e-6)
    sidecar = json.loads((head / "out" / "desc-paramagnetic_Chimap.json").read_text())
    assert sidecar["Quantity"] == "chi_pos"
    assert sidecar["Units"] == "ppm"
    assert sidecar["Provenance"]["parameters"]["dr_positive"] == DR
    assert "r2prime" in sidecar["Provenance"]["inputs"]
    assert "1/s" in result.stdout


def test_every_way_to_r2prime_comes_to_the_same_and_says_which_it_was(separate, head):
    ways = {
        "given": [("r2prime", "r2prime")],
        "1/ms": [("r2prime", "r2prime_ms")],
        "less the given R2": [("r2star", "r2star_measured"), ("r2", "r2")],
        "nominal": [("r2star", "r2star")],
    }
    maps = []
    for index, (word, rates) in enumerate(ways.items()):
        result = separate(*rates, output=f"out{index}")
        assert result.exit_code == 0, result.output
        assert word in " ".join(result.stdout.split())
        maps.append(read_volume(head / f"out{index}" / "desc-paramagnetic_Chimap.nii.gz").data)
    assert all(np.allclose(one, maps[0], atol=2e-4) for one in maps)


def test_without_a_rate_one_sentence_says_what_is_missing(separate, refused):
    refused(separate(), "needs a map of R2' or R2* beside the field")


def test_two_passes_around_a_separation_are_refused(separate, refused):
    result = separate(("r2prime", "r2prime"), method="closed_form+two_pass")
    refused(result, "one map of susceptibility")


def test_linearity_prints_slopes_and_writes_the_table(separate, head):
    more = (*TKD, "--region", head / "region.nii.gz", "--label", "3", "--strengths", "1,2,3")
    result = separate(("r2prime", "r2prime"), command="linearity", more=more)
    assert result.exit_code == 0, result.output
    assert "slope of χ+: " in result.stdout
    rows = list(csv.reader((head / "out" / "linearity.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["strength", "1", "2", "3", "slope"]
    assert 0.6 < float(rows[-1][2]) < 1.3
    again = separate(("r2prime", "r2prime"), command="linearity", more=more)
    assert again.exit_code == 2  # what is there is not replaced


@pytest.mark.parametrize(
    ("changed", "words"),
    [(("--label", "1"), "there are 3"), (("--strengths", "abc"), "numbers such as")],
)
def test_linearity_refuses_in_a_sentence(separate, head, refused, changed, words):
    more = (*TKD, "--region", head / "region.nii.gz", *changed)
    refused(separate(("r2prime", "r2prime"), command="linearity", more=more), words)


def test_names_of_rates_are_understood():
    from pathlib import Path

    from napari_qsm.workbench.layers import guess_quantity

    names = {
        "sub-1_R2starmap.nii.gz": Quantity.R2STAR,
        "r2s.nii": Quantity.R2STAR,
        "R2_star.nii.gz": Quantity.R2STAR,
        "R2primemap.nii": Quantity.R2PRIME,
        "my_r2p.nii": Quantity.R2PRIME,
        "sub-1_R2map.nii.gz": Quantity.R2,
        "R2.nii.gz": Quantity.R2,
        "x_desc-paramagnetic_Chimap.nii.gz": Quantity.CHI_POS,
        "x_desc-diamagnetic_Chimap.nii.gz": Quantity.CHI_NEG,
        "x_desc-residual_R2primemap.nii.gz": Quantity.RESIDUAL_R2PRIME,
    }
    for name, quantity in names.items():
        assert guess_quantity(Path(name), None) is quantity, name


def test_raw_phase_is_separated_with_the_fitted_r2star_and_a_measured_r2(
    typed, save_raw, tmp_path, refused
):
    r2 = save_raw(tmp_path / "r2.nii.gz", np.full((12, 13, 14), 4.0, "f4"))
    settings = ("--method", "closed_form", "--set", "method.inversion=tkd")
    result = typed("run", "--r2", r2, *settings)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stdout.split())
    assert "R2' is the given R2* less the given R2." in words
    positive = next((tmp_path / "out").rglob("*desc-paramagnetic_Chimap.nii.gz"))
    negative = next((tmp_path / "out").rglob("*desc-diamagnetic_Chimap.nii.gz"))
    total = read_volume(positive).data + read_volume(negative).data
    inside = total > 0
    assert np.median(total[inside]) >= 0.999 * (10 - 4) / DR  # 10 1/s is what the toy fits
    elsewhere = save_raw(tmp_path / "small.nii.gz", np.ones((4, 5, 6), "f4"))
    refused(typed("run", "--r2prime", elsewhere, *settings, output="other"), "small.nii.gz")
    nothing = typed("run", *settings, output="other", relaxation="none")
    refused(nothing, "needs a map of R2' or R2*")


def test_separated_susceptibility_keeps_its_own_zero_in_words(typed, tmp_path):
    settings = ("--method", "closed_form", "--set", "method.inversion=tkd")
    rates = ("--set", "method.nominal_r2=5")  # the toy fits an R2* of 10 1/s
    more = ("--set", "reference.to=csf")
    result = typed("run", *settings, *rates, *more, reference="reference")
    assert result.exit_code == 0, result.output
    assert "chi is chi+ less chi- and keeps its own zero" in " ".join(result.stdout.split())
    chi, positive, negative = (
        read_volume(next((tmp_path / "out").rglob(f"*{name}Chimap.nii.gz"))).data
        for name in ("toy_", "paramagnetic_", "diamagnetic_")
    )
    assert np.allclose(chi, positive - negative, atol=1e-6)

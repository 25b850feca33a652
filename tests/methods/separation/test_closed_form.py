"""The closed form: exact where chi is, and honest about Dr, R2' and the zero of susceptibility."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.methods.registry import find
from napari_qsm.methods.separation.shared import zero_of
from napari_qsm.physics.dipole import DipoleConvolution
from napari_qsm.physics.relaxation import Relaxivity

Q = Quantity
POS, NEG = Q.CHI_POS, Q.CHI_NEG


@pytest.mark.parametrize("relaxivity", [(114.0, 114.0), (114.0, 30.0)])
@pytest.mark.parametrize("strength", [3.0, 7.0])
def test_of_the_true_susceptibility_it_is_exact(known, separate, relaxivity, strength):
    case = known(relaxivity=relaxivity, strength=strength)
    settings = {"dr_positive": relaxivity[0], "dr_negative": relaxivity[1]}
    maps = separate("closed_form", case.given(chi=case.chi), inversion="given", **settings)
    assert case.errors(maps).max() < 1e-6
    assert np.abs(maps[Q.RESIDUAL_R2PRIME]).max() < 1e-4
    told = " ".join(maps.provenance.notes)
    assert (f"at {strength:g} T, in proportion" in told) == (strength != 3)
    assert maps.provenance.parameters["dr_positive"] == relaxivity[0]


def test_where_r2prime_is_all_of_one_kind_the_other_is_exactly_zero(known, separate):
    case = known()
    acquisition = case.given(chi=case.chi, r2prime=np.float32(114) * np.abs(case.chi))
    maps = separate("closed_form", acquisition, inversion="given")
    assert not (maps[POS] * maps[NEG]).any()
    np.testing.assert_allclose(maps[Q.CHI], case.chi, atol=1e-6)


def test_its_residuals_are_those_of_its_maps(known, separate):
    case = known(0.002, 3.0)
    maps = separate("closed_form", case.acquisition, dr_negative=60.0, inversion="tikhonov")
    expected = 114 * maps[POS] + 60 * maps[NEG] - case.acquisition[Q.R2PRIME]
    np.testing.assert_allclose(maps[Q.RESIDUAL_R2PRIME], expected, atol=1e-4)
    field = DipoleConvolution(case.acquisition.grid, padding=1.3)(torch.tensor(maps[Q.CHI]))
    misfit = field.numpy() - case.acquisition[Q.LOCAL_FIELD]
    difference = (maps[Q.RESIDUAL] - misfit)[case.mask]
    assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(misfit[case.mask])


def test_any_inversion_will_do_and_says_so(known, separate):
    case = known(0.002, 3.0)
    errors = {}
    for key in ("tkd", "tv"):
        maps = separate("closed_form", case.acquisition, inversion=key)
        assert f"It begins with the susceptibility of {find(key).label}." in maps.provenance.notes
        errors[key] = case.errors(maps).max()
    assert errors["tv"] < errors["tkd"] < 1


def test_no_constant_of_the_susceptibility_matters(known, separate):
    case = known()
    maps = [
        separate("closed_form", case.given(chi=(case.chi + c) * case.mask), inversion="given")
        for c in (0.0, 0.05, -0.03)
    ]
    for other in maps[1:]:
        np.testing.assert_allclose(other[POS], maps[0][POS], atol=1e-4)
    as_given = separate(
        "closed_form", case.given(chi=(case.chi + 0.05) * case.mask), inversion="given",
        find_zero=False,
    )  # fmt: skip
    assert case.errors(as_given).max() > 0.2


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_dr_wrong_by_a_fifth_is_wrong_by_about_a_fifth(known, separate, factor):
    case = known()
    given = case.given(chi=case.chi)
    maps = separate("closed_form", given, inversion="given", dr_positive=114 * factor)
    assert np.all(case.errors(maps) > 0.1)
    assert np.all(case.errors(maps) < 0.3)


def test_r2star_alone_will_do_and_is_called_a_surrogate(known, separate):
    case = known()
    acquisition = case.given(
        chi=case.chi, r2prime=None, r2star=case.acquisition[Q.R2PRIME] + np.float32(15)
    )
    maps = separate("closed_form", acquisition, inversion="given", nominal_r2=15.0)
    assert case.errors(maps).max() < 1e-5
    assert any("R2*-surrogate" in note for note in maps.provenance.notes)
    assert "r2star" in maps.provenance.inputs


def test_what_is_missing_is_a_sentence(known, separate):
    case = known()
    with pytest.raises(InputError, match="asked to begin with a given susceptibility"):
        separate("closed_form", case.acquisition, inversion="given")
    with pytest.raises(InputError, match=r"needs a map of R2' or R2\* beside the field"):
        separate("closed_form", case.given(r2prime=None))
    with pytest.raises(InputError, match="no method 'magic'"):
        separate("closed_form", case.acquisition, inversion="magic")


def test_an_unknown_b0_is_taken_for_3_tesla_and_noted(known, separate):
    case = known()
    given = case.given(chi=case.chi)
    bare = Acquisition(given.grid, given.volumes)
    maps = separate("closed_form", bare, inversion="given")
    assert case.errors(maps).max() < 1e-6
    assert any("B0 is not known" in note for note in maps.provenance.notes)


@pytest.mark.parametrize("relaxivity", [Relaxivity(114.0, 114.0), Relaxivity(114.0, 30.0)])
def test_the_zero_is_where_least_exceeds_r2prime(relaxivity):
    rng = np.random.default_rng(0)
    positive, negative = torch.from_numpy(rng.exponential(0.03, (2, 12, 12, 12)))
    chi, rate = positive - negative, relaxivity.rate(positive, negative)
    region = torch.ones_like(chi, dtype=torch.bool)
    assert zero_of(chi, rate, relaxivity, region) == 0

    def excess(shift):
        high = (chi + shift - rate / relaxivity.positive).clamp(min=0)
        low = (chi + shift + rate / relaxivity.negative).clamp(max=0)
        return float((high.square() + low.square()).sum())

    rate = rate * 0.8  # now everything exceeds it somewhere
    for moved in (0.0, 0.1, -0.1):
        found = zero_of(chi + moved, rate, relaxivity, region)
        assert excess(found + moved) <= min(excess(c) for c in np.linspace(-0.2, 0.2, 4001)) + 1e-9
    flipped = zero_of(
        -chi - 0.1, rate, Relaxivity(relaxivity.negative, relaxivity.positive), region
    )
    assert flipped == pytest.approx(-zero_of(chi + 0.1, rate, relaxivity, region), abs=1e-9)


def test_nothing_in_the_region_needs_no_zero():
    nothing = torch.zeros(3, 3, 3)
    assert zero_of(nothing, nothing, Relaxivity(1.0, 1.0), nothing.bool()) == 0


def test_the_grid_does_not_matter(known, separate):
    """Oblique B0 and anisotropic voxels: the closed form knows neither."""
    rng = np.random.default_rng(1)
    grid = Grid((8, 9, 10), np.diag([1.0, 1.5, 2.0, 1.0])).with_b0((0.3, 0.1, 1.0))
    positive, negative = rng.random((2, *grid.shape)).astype(np.float32) * 0.1
    volumes = {
        Q.LOCAL_FIELD: rng.standard_normal(grid.shape) * 0.01,
        Q.R2PRIME: 114 * (positive + negative),
        Q.CHI: positive - negative,
    }
    maps = separate("closed_form", Acquisition(grid, volumes, 3.0), inversion="given")
    np.testing.assert_allclose(maps[POS], positive, atol=1e-6)
    np.testing.assert_allclose(maps[NEG], negative, atol=1e-6)

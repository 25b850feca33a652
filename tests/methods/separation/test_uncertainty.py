"""The uncertainty of both sources: of noise in the field and in R2', drawn together."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError, Quantity
from napari_qsm.methods.registry import find, methods
from napari_qsm.methods.wrapping import wrappers

Q = Quantity
SPREADS = {Q.CHI: Q.SIGMA, Q.CHI_POS: Q.SIGMA_POS, Q.CHI_NEG: Q.SIGMA_NEG}
SEPARATIONS = [m for m in methods().values() if Q.CHI_POS in m.gives]


@pytest.mark.parametrize("method", SEPARATIONS, ids=lambda m: m.key)
def test_it_fits_around_every_separation_and_two_passes_do_not(method):
    whole = find(f"{method.key}+sigma")
    assert set(whole.gives) == {*method.gives, *SPREADS.values()}
    assert whole.one_of == method.one_of
    assert "draws" in whole.parameters.model_fields
    with pytest.raises(InputError, match="separates two"):
        find(f"{method.key}+two_pass")
    assert Q.SIGMA_POS not in wrappers()["sigma"](find("tv")).gives


@pytest.mark.parametrize("key", ["closed_form", "chi_separation"])
def test_two_deviations_cover_what_noise_does(known, separate, key):
    """Of the distance from what the method makes of field and R2' without noise."""
    case, clean = known(0.002, 2.0), known()
    maps = separate(f"{key}+sigma", case.acquisition)
    expected = separate(key, clean.acquisition, **maps.provenance.chosen)
    assert set(maps.volumes) == set(find(f"{key}+sigma").gives)
    sure = case.mask & (clean.acquisition[Q.R2PRIME] > 6)  # clipping moves the mean elsewhere
    for of in (Q.CHI_POS, Q.CHI_NEG):
        error, spread = np.abs(maps[of] - expected[of])[sure], maps[SPREADS[of]][sure]
        assert 0.85 < np.mean(error < 2 * spread) < 0.99
        assert 0.5 < np.median(error) / (0.6745 * np.median(spread)) < 1.5


def test_the_maps_are_the_methods_own_and_the_noise_of_r2prime_is_told(known, separate):
    case = known(0.002, 3.0)
    plain = separate("chi_separation", case.acquisition)
    maps = separate("chi_separation+sigma", case.acquisition, draws=2)
    for of in SPREADS:
        assert np.array_equal(maps[of], plain[of])
        assert not maps[SPREADS[of]][~case.mask].any()
    assert any("that of the R2' 3" in note or "that of the R2' 2" in note
               for note in maps.provenance.notes)  # fmt: skip


def test_a_noisier_r2prime_makes_sources_less_sure_than_their_difference(known, separate):
    quiet, loud = (
        separate("closed_form+sigma", known(0.002, noise).acquisition, draws=4)
        for noise in (1.0, 6.0)
    )
    mask = known().mask
    assert loud[Q.SIGMA_POS][mask].mean() > 2 * quiet[Q.SIGMA_POS][mask].mean()
    assert loud[Q.SIGMA][mask].mean() < 1.5 * quiet[Q.SIGMA][mask].mean()


def test_without_r2prime_the_noise_is_that_of_r2star(known, separate):
    case = known(0.002, 2.0)
    star = case.acquisition[Q.R2PRIME] + np.float32(13)
    maps = separate("closed_form+sigma", case.given(r2prime=None, r2star=star), draws=2)
    assert any("that of the R2* " in note for note in maps.provenance.notes)

"""What susceptibility is relative to: invariances, and what is found for it."""

import numpy as np
import pytest

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation.registry import find

SHAPE, SIZE = (44, 40, 30), (2.0, 2.0, 3.0)


def run(measured, **settings):
    stage = find("reference")
    return finished(stage(measured, stage.with_settings(settings)))


def distance(centre):
    along = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SIZE, strict=True)]
    places = np.meshgrid(*along, indexing="ij")
    return np.sqrt(sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)))


VENTRICLES = (distance((8, 0, 0)) < 7) | (distance((-8, 0, 0)) < 7)
SULCUS = distance((36, 0, 0)) < 5
"""As slow as the ventricles, but at the surface."""
BRAIN = distance((0, 0, 0)) < 39


def measured(constant=0.0, **without):
    rng = np.random.default_rng(0)
    chi = np.where(BRAIN, 0.05 * rng.standard_normal(SHAPE) + constant, 0)
    chi[VENTRICLES] = 0.02 + constant
    rate = np.where(VENTRICLES | SULCUS, 2.0, 20.0) * BRAIN
    rate[distance((0, 15, 0)) < 6] = 0.0  # a bleeding without signal, where nothing can be fitted
    signal = 100.0 * BRAIN * (distance((0, 15, 0)) >= 6)
    labels = np.where(distance((0, -20, 0)) < 6, 3.0, np.where(distance((20, 0, 0)) < 6, 7.0, 0))
    volumes = {
        Quantity.CHI: chi,
        Quantity.MASK: BRAIN,
        Quantity.R2STAR: rate,
        Quantity.MAGNITUDE: signal,
        Quantity.LABELS: labels,
    }
    kept = {q: v for q, v in volumes.items() if without.get(q.key, True)}
    return Acquisition(Grid(SHAPE, np.diag([*SIZE, 1.0])), kept)


LABELLED = measured()[Quantity.LABELS] > 0


@pytest.mark.parametrize(
    ("settings", "region"),
    [
        ({"to": "mask"}, BRAIN),
        ({"to": "csf"}, VENTRICLES),
        ({"to": "roi"}, LABELLED),
        ({"to": "roi", "label": 7}, measured()[Quantity.LABELS] == 7),
    ],
    ids=["mask", "csf", "roi", "label"],
)
def test_the_mean_of_the_region_becomes_zero(settings, region):
    maps = run(measured(), **settings)
    chi = maps[Quantity.CHI]
    assert abs(chi[region].mean(dtype=np.float64)) < 1e-7
    assert (chi[~BRAIN] == 0).all()
    shift = chi[BRAIN] - measured()[Quantity.CHI][BRAIN]
    assert np.ptp(shift) < 1e-6  # the same was subtracted everywhere in the mask
    (note,) = maps.provenance.notes
    assert f"{region.sum()} voxels" in note
    assert f"{-shift.mean():+.4f} ppm" in note


@pytest.mark.parametrize("to", ["mask", "csf", "roi"])
@pytest.mark.parametrize("constant", [0.3, -1.0])
def test_a_constant_changes_nothing(to, constant):
    one, other = (run(measured(c), to=to)[Quantity.CHI] for c in (0.0, constant))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("to", ["mask", "csf", "roi"])
def test_a_second_time_changes_nothing(to):
    once = run(measured(), to=to)[Quantity.CHI]
    twice = run(measured().with_volumes({Quantity.CHI: once}), to=to)[Quantity.CHI]
    np.testing.assert_allclose(once, twice, atol=1e-8)


def test_none_leaves_the_map_bit_for_bit():
    maps = run(measured(0.1), to="none")
    np.testing.assert_array_equal(maps[Quantity.CHI], measured(0.1)[Quantity.CHI])
    assert "the method gave it" in maps.provenance.notes[-1]


def test_a_void_is_no_fluid():
    """Without the magnitude a bleeding in which no rate could be fitted passes for fluid."""
    blind = run(measured(magnitude=False), to="csf").provenance.notes[-1]
    assert f"{VENTRICLES.sum()} voxels" not in blind
    assert f"{VENTRICLES.sum()} voxels" in run(measured(), to="csf").provenance.notes[-1]


def test_without_a_mask_what_is_not_zero_counts():
    maps = run(measured(mask=False), to="mask")
    assert "no mask" in maps.provenance.notes[0]
    np.testing.assert_array_equal(maps[Quantity.CHI], run(measured(), to="mask")[Quantity.CHI])


@pytest.mark.parametrize(
    ("acquisition", "settings", "said"),
    [
        (measured(r2star=False), {"to": "csf"}, "found by R2"),
        (measured(labels=False), {"to": "roi"}, "no labels"),
        (measured(), {"to": "roi", "label": 5}, "no label 5 .* labels 3, 7"),
        (
            measured().with_volumes({Quantity.R2STAR: np.full(SHAPE, 20.0)}),
            {"to": "csf"},
            "Only 0 voxels",
        ),
        (
            measured(mask=False).with_volumes({Quantity.CHI: np.zeros(SHAPE)}),
            {"to": "mask"},
            "zero everywhere",
        ),
    ],
    ids=["rate", "labels", "label", "fluid", "empty"],
)
def test_what_is_missing_is_a_sentence(acquisition, settings, said):
    with pytest.raises(InputError, match=said) as refused:
        run(acquisition, **settings)
    assert str(refused.value).endswith(".")


def test_rates_in_the_wrong_unit_are_not_taken_for_fluid():
    rates = measured()[Quantity.R2STAR] / 1000
    with pytest.raises(InputError, match="not in 1/ms"):
        run(measured().with_volumes({Quantity.R2STAR: rates}), to="csf")

"""The lesion's share of the data is scaled, and what comes back is what a method makes of it."""

import csv
import io
import math

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Maps, Provenance, Quantity
from napari_qsm.evaluation.linearity import STRENGTHS, linearity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import Method, Step, find
from napari_qsm.methods.separation.shared import Separating
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (20, 22, 18)
POS, NEG, CHI = Quantity.CHI_POS, Quantity.CHI_NEG, Quantity.CHI
DR = 114.0
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 1.2, 1.0]))


@pytest.fixture(scope="module")
def lesion():
    """A ball of 0.2 ppm of chi+ in a weak brain: sources, and where they are."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 0.9
    region = sum((a - 0.1) ** 2 for a in axes) < 0.1
    rng = np.random.default_rng(0)
    pos = (0.02 * rng.uniform(size=SHAPE) * mask + 0.2 * region).astype("f4")
    neg = (0.02 * rng.uniform(size=SHAPE) * mask).astype("f4")
    return mask, region, pos, neg


def measured(lesion, strength=1.0, rate=Quantity.R2PRIME):
    mask, region, pos, neg = lesion
    more = 1 + (strength - 1) * region
    chi = torch.from_numpy(((pos - neg) * more).astype("f4"))
    volumes = {
        Quantity.LOCAL_FIELD: DipoleConvolution(GRID, padding=1.5)(chi).numpy() * mask,
        Quantity.MASK: mask,
        rate: DR * (pos + neg) * more * mask + (13 if rate is Quantity.R2STAR else 0),
    }
    return Acquisition(GRID, volumes, field_strength=3.0)


def oracle(lesion, ceiling=math.inf):
    """A method that finds the true sources by trying strengths; more than `ceiling` it misses."""
    seen = []

    def run(acquisition, parameters, device):
        yield Step(0.5, "looking")
        seen.append(acquisition)
        mask, region, pos, neg = lesion
        rate = acquisition[Quantity.R2PRIME][region].mean() / (DR * (pos + neg)[region].mean())
        true = measured(lesion, rate)
        assert np.allclose(acquisition[Quantity.LOCAL_FIELD], true[Quantity.LOCAL_FIELD], atol=1e-5)
        assert np.allclose(acquisition[Quantity.R2PRIME], true[Quantity.R2PRIME], atol=1e-3)
        more = np.where(region, rate, 1)
        found = {POS: np.minimum(pos * more, ceiling) * mask, NEG: neg * more * mask}
        return Maps(acquisition.grid, found | {CHI: found[POS] - found[NEG]}, Provenance())

    made = Method(
        "oracle",
        "Oracle",
        "Knows.",
        (Quantity.LOCAL_FIELD,),
        (Quantity.R2PRIME,),
        (POS, NEG, CHI),
        (),
        Separating,
        run,
        one_of=(Quantity.R2PRIME,),
    )
    return made, seen


def test_the_data_are_those_of_the_scaled_lesion_and_a_perfect_method_has_slope_one(lesion):
    method, seen = oracle(lesion)
    made = finished(linearity(method, measured(lesion), lesion[1], strengths=(0, 0.5, 1, 3)))
    assert len(seen) == 4  # strength 1 is run once
    positive, negative = made.responses
    assert positive.slope == pytest.approx(1, abs=1e-4)
    assert math.isnan(negative.slope)  # a tenth of the other or less
    assert positive.values == pytest.approx([s * positive.source for s in made.strengths], abs=1e-5)
    assert made.voxels == lesion[1].sum()


def test_a_method_that_saturates_has_a_smaller_slope(lesion):
    method, _ = oracle(lesion, ceiling=0.25)
    made = finished(linearity(method, measured(lesion), lesion[1]))
    assert made.strengths == STRENGTHS
    assert 0.05 < made.responses[0].slope < 0.6


def test_r2star_grows_as_r2prime_does(lesion):
    method = find("closed_form")
    values = {"inversion": "tkd", "find_zero": False}
    runs = {
        rate: finished(
            linearity(
                method,
                measured(lesion, rate=rate),
                lesion[1],
                method.with_settings(values),
                strengths=(1, 2),
            )
        )
        for rate in (Quantity.R2PRIME, Quantity.R2STAR)
    }
    first, second = (made.responses[0] for made in runs.values())
    assert first.values == pytest.approx(second.values, rel=1e-3)
    assert 0.6 < first.slope < 1.2


def test_one_susceptibility_answers_for_itself(lesion):
    made = finished(linearity(find("tikhonov"), measured(lesion), lesion[1], strengths=(1, 2, 3)))
    (response,) = made.responses
    assert response.quantity is CHI
    assert 0.6 < response.slope < 1.05
    # A linear method with one lambda answers in a line.
    steps = np.diff(response.values)
    assert steps[0] == pytest.approx(steps[1], rel=1e-3)


def test_what_is_chosen_from_the_data_is_chosen_once(lesion):
    method, _ = oracle(lesion)
    chosen = []

    def run(acquisition, parameters, device):
        chosen.append(parameters.nominal_r2)
        maps = yield from method.function(acquisition, parameters, device)
        return Maps(maps.grid, maps.volumes, Provenance(chosen={"nominal_r2": 7.0}))

    fickle = Method(**{**vars(method), "function": run})
    finished(linearity(fickle, measured(lesion), lesion[1], strengths=(1, 2, 3)))
    assert chosen == [13.0, 7.0, 7.0]


def test_the_table_has_a_line_for_each_strength_and_the_slopes(lesion):
    method, _ = oracle(lesion)
    made = finished(linearity(method, measured(lesion), lesion[1], strengths=(1, 2)))
    rows = list(csv.reader(io.StringIO(made.table())))
    assert [row[0] for row in rows] == ["strength", "1", "2", "slope"]
    assert rows[0][1:3] == ["chi_pos simulated [ppm]", "chi_pos found [ppm]"]
    assert float(rows[2][1]) == pytest.approx(2 * float(rows[1][1]), rel=1e-4)
    assert rows[-1][2:] == ["1", "", ""]


def test_fractions_rise_and_closing_ends_the_method(lesion):
    method, _ = oracle(lesion)
    running = linearity(method, measured(lesion), lesion[1])
    fractions = []
    for step in running:
        fractions.append(step.fraction)
        if "strength 2" in step.message:
            running.close()
    assert fractions == sorted(fractions)
    assert 0.5 < fractions[-1] < 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"region": np.zeros(SHAPE, bool)}, "no voxel inside the mask"),
        ({"region": np.ones((3, 3, 3), bool)}, "shape"),
        ({"strengths": (1.0, 1.0)}, "two or more different"),
        ({"strengths": (-1.0, 1.0)}, "none below 0"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_a_sentence(lesion, change, words):
    method, _ = oracle(lesion)
    given = {"region": lesion[1], "strengths": (1, 2)} | change
    with pytest.raises(InputError, match=words):
        finished(linearity(method, measured(lesion), **given))


def test_it_says_what_is_missing(lesion):
    known = measured(lesion)
    volumes = {q: v for q, v in known.volumes.items() if q is not Quantity.R2PRIME}
    with pytest.raises(InputError, match="R2'"):
        finished(linearity(oracle(lesion)[0], Acquisition(GRID, volumes), lesion[1]))

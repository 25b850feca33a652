"""Region tables: counted by hand, equal to the public scorer's, and readable again."""

import csv
import io

import numpy as np
import pytest

from napari_qsm.acquisition import InputError
from napari_qsm.evaluation.regions import region_csv, region_table

SHAPE = (12, 10, 8)
RNG = np.random.default_rng(0)
CHI = RNG.normal(0, 0.05, SHAPE)
LABELS = RNG.integers(0, 5, SHAPE)
MASK = np.indices(SHAPE)[0] > 2
SIZE = (1.0, 2.0, 1.5)


def test_every_region_is_described_in_every_map():
    table = region_table({"a": CHI, "b": 2 * CHI}, LABELS, SIZE, mask=MASK, names={2: "putamen"})
    assert [(one.label, one.map) for one in table] == [(k, m) for k in range(1, 5) for m in "ab"]
    for one in table:
        part = (2 if one.map == "b" else 1) * CHI[(one.label == LABELS) & MASK]
        assert one.voxels == part.size
        assert one.volume == pytest.approx(part.size * 3.0 / 1000)
        found = (one.mean, one.median, one.deviation, one.low, one.high)
        expected = (part.mean(), np.median(part), part.std(), *np.percentile(part, (5, 95)))
        assert found == pytest.approx(expected, rel=1e-12)
        assert np.isnan(one.standard_error)
        assert one.name == ("putamen" if one.label == 2 else "")


def test_the_public_scorer_finds_the_same():
    scorer = pytest.importorskip("qsm_ci.qsm_eval", reason="qsm-ci is not installed")
    theirs = scorer.region_stats(CHI, LABELS, MASK)
    for one in region_table({"chi": CHI}, LABELS, SIZE, mask=MASK):
        stated = theirs[str(one.label)]
        assert one.voxels == stated["n"]
        found = (one.mean, one.deviation, one.median)  # theirs are rounded to 1e-6
        assert found == pytest.approx((stated["mean"], stated["std"], stated["median"]), abs=1e-6)


def test_the_standard_error_is_that_of_a_mean():
    """Means of many noisy maps scatter as the standard error says."""
    sigma = np.where(LABELS == 1, 0.02, 0.05)
    (first, *_) = region_table({"chi": CHI}, LABELS, SIZE, sigma={"chi": sigma})
    assert first.standard_error == pytest.approx(0.02 / np.sqrt(first.voxels))
    noise = RNG.standard_normal((4000, first.voxels)) * 0.02
    assert noise.mean(axis=1).std() == pytest.approx(first.standard_error, rel=0.05)


def test_the_file_can_be_read_again():
    names = {1: "a, b", 2: "χ"}
    table = region_table({"x": CHI}, LABELS, SIZE, names=names, sigma={"x": 0.1 + 0 * CHI})
    rows = list(csv.DictReader(io.StringIO(region_csv(table))))
    assert [row["name"] for row in rows] == ["a, b", "χ", "", ""]
    assert float(rows[0]["mean [ppm]"]) == pytest.approx(table[0].mean, rel=1e-5)
    assert float(rows[0]["standard error [ppm]"]) == pytest.approx(table[0].standard_error, 1e-5)
    without = csv.DictReader(io.StringIO(region_csv(region_table({"x": CHI}, LABELS, SIZE))))
    assert next(without)["standard error [ppm]"] == ""


def test_labels_of_floats_are_whole_or_refused():
    whole = region_table({"x": CHI}, LABELS.astype(np.float32), SIZE)
    assert whole == pytest.approx(whole)
    assert len(whole) == 4
    with pytest.raises(InputError, match="no whole numbers"):
        region_table({"x": CHI}, LABELS + 0.5, SIZE)


def test_refusals_are_sentences():
    with pytest.raises(InputError, match="'x' has shape"):
        region_table({"x": CHI[1:]}, LABELS, SIZE)
    with pytest.raises(InputError, match="sigma of x"):
        region_table({"x": CHI}, LABELS, SIZE, sigma={"x": CHI[1:]})
    with pytest.raises(InputError, match="and the mask"):
        region_table({"x": CHI}, LABELS, SIZE, mask=MASK[1:])
    with pytest.raises(InputError, match="No voxel inside the mask"):
        region_table({"x": CHI}, LABELS * ~MASK, SIZE, mask=MASK)

"""The table of a result's regions."""

import numpy as np
import pytest

from napari_qsm.acquisition import InputError, Maps, Quantity
from napari_qsm.training.phantom import sample_head
from napari_qsm.workbench.report import result_table

HEAD = sample_head("haemorrhage", 5.0)


def test_regions_of_a_result_come_with_standard_errors_if_it_has_a_sigma():
    chi, labels = HEAD.truth[Quantity.CHI], HEAD.truth[Quantity.LABELS]
    plain = Maps(HEAD.acquisition.grid, {Quantity.CHI: chi})
    sigma = Maps(plain.grid, {Quantity.CHI: chi, Quantity.SIGMA: np.full_like(chi, 0.01)})
    first, second = (result_table(maps, labels).splitlines() for maps in (plain, sigma))
    assert len(first) == len(second) == 1 + len(np.unique(labels[chi != 0]))
    assert first[1].endswith(",")
    voxels = int(second[1].split(",")[3])
    assert float(second[1].split(",")[-1]) == pytest.approx(0.01 / voxels**0.5, rel=1e-4)
    with pytest.raises(InputError, match="same measurement"):
        result_table(plain, labels[1:])
    with pytest.raises(InputError, match="no susceptibility"):
        result_table(Maps(plain.grid, {Quantity.LOCAL_FIELD: chi}), labels)

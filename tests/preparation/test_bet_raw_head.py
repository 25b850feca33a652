"""BET on raw digital heads, whose brain is one solid body in a skull with sinuses."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Quantity
from napari_qsm.generators import finished
from napari_qsm.preparation.registry import find
from napari_qsm.training.raw_head import raw_head


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def extracted(acquisition):
    return finished(find("bet")(acquisition))[Quantity.MASK]


@pytest.mark.parametrize(("size", "seed"), [(3.0, 0), (3.0, 1), (3.0, 3), (4.0, 2)])
def test_the_whole_brain_is_one_part(size, seed):
    """Two voxels in its middle may be equally deep; the brain must not be parted between them."""
    raw = raw_head(size, seed=seed, lesions=())
    mask, brain = extracted(raw.acquisition), raw.truth[Quantity.MASK]
    both = np.count_nonzero(mask & brain)
    assert 2 * both / (np.count_nonzero(mask) + np.count_nonzero(brain)) > 0.96

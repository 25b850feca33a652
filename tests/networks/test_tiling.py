"""Tiles give what the whole volume gives, and cover it once."""

import numpy as np
import pytest
import torch

from napari_qsm.networks.tiling import footprint, free_memory, reach, tiles
from napari_qsm.networks.unet import Architecture, UNet

CPU = torch.device("cpu")


def assembled(network, volume, parts):
    made = torch.zeros(1, sum(network.architecture.heads), *volume.shape[-3:])
    for part in parts:
        shown, kept, inner = ((slice(None), slice(None), *box) for box in part.boxes)
        made[kept] = network(volume[shown])[inner]
    return made


@pytest.mark.parametrize("norm", ["none", "scale", "batch"])
@pytest.mark.parametrize(
    ("widths", "shape", "most"),
    [((4, 8), (75, 42, 31), 60_000), ((2, 4, 4), (75, 60, 12), 45_000)],
)
def test_tiles_give_what_one_pass_gives(norm, widths, shape, most):
    """Both volumes are cut across two axes, and no tile shows the whole of either."""
    torch.manual_seed(0)
    architecture = Architecture(inputs=2, widths=widths, norm=norm)
    network = UNet(architecture).eval()
    volume = torch.randn(1, 2, *shape)
    parts = tiles(architecture, shape, most)
    assert len(parts) == 4
    assert all(
        s.stop - s.start < n for p in parts for s, n in zip(p.shown[:2], shape[:2], strict=True)
    )
    with torch.inference_mode():
        whole = network(volume)
        difference = assembled(network, volume, parts) - whole
    assert float(difference.abs().max()) < 1e-5 * float(whole.abs().max())


def test_a_smaller_reach_would_leave_seams():
    torch.manual_seed(0)
    architecture = Architecture(widths=(4, 8))
    network = UNet(architecture).eval()
    volume = torch.zeros(1, 1, 64, 16, 16)
    volume[0, 0, 31, 8, 8] = 1.0
    with torch.inference_mode():
        felt = network(volume)[0, 0].abs().amax(dim=(1, 2)).nonzero().flatten()
    width = max(31 - int(felt.min()), int(felt.max()) - 31)
    assert reach(architecture) // 2 < width <= reach(architecture)


def test_every_voxel_is_kept_once():
    shape = (70, 33, 50)
    counts = np.zeros(shape, int)
    for part in tiles(Architecture(), shape, 100_000):
        counts[part.kept] += 1
        assert all(s.start % 8 == 0 for s in part.shown)
    assert (counts == 1).all()


def test_a_volume_that_fits_is_one_tile():
    (whole,) = tiles(Architecture(), (40, 50, 60), 40 * 50 * 60)
    assert whole.voxels == 40 * 50 * 60
    assert whole.shown == whole.kept == whole.inner


def test_tiles_have_a_smallest_size():
    parts = tiles(Architecture(), (40, 40, 40), 1)
    assert min(s.stop - s.start for part in parts for s in part.kept) >= 8


def test_memory_is_counted():
    assert footprint(Architecture(), 10, 4) == 2 * footprint(Architecture(), 10, 2)
    assert 2**20 < free_memory(CPU) < 2**50

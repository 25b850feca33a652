"""What methods with a network share: what they see, one pass or tiles, memory and cancelling."""

import gc
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods import learned
from napari_qsm.methods.channels import channels
from napari_qsm.methods.learned import estimate, offered, opened, seen
from napari_qsm.methods.registry import find
from napari_qsm.methods.workspace import Workspace
from napari_qsm.networks import tiling
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card, write

CPU = torch.device("cpu")


def head(shape=(30, 34, 28), scale=1.0):
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    field = scale * 0.02 * rng.standard_normal(shape) * mask
    return Acquisition(Grid(shape, np.eye(4)), {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask})


def passed(measured, network, **settings):
    with Workspace(measured, CPU, "Test") as space:
        view = finished(seen(measured, network, space))
        return finished(estimate(space, network, view, precision="float32", **settings)), space


def inverter(**more):
    torch.manual_seed(0)
    return Inverter(Design(("field", "tikhonov"), True, Architecture(widths=(4, 8), **more))).eval()


def test_channels_are_the_field_and_the_map_of_the_method():
    measured = head()
    made = finished(channels(measured, ("field", "tikhonov")))
    np.testing.assert_array_equal(made[0], measured[Quantity.LOCAL_FIELD])
    np.testing.assert_array_equal(made[1], finished(find("tikhonov")(measured))[Quantity.CHI])


def test_a_susceptibility_that_is_there_changes_no_channel():
    measured = head()
    started = measured.with_volumes({Quantity.CHI: 1e-2 * measured.mask})
    made = [finished(channels(one, ("field", "tv"))) for one in (measured, started)]
    np.testing.assert_array_equal(*made)


def test_tiles_and_one_pass_agree(monkeypatch):
    network, measured = inverter(), head((48, 30, 28))
    whole, space = passed(measured, network)
    assert not any("tiles" in note for note in space.notes)
    voxel = tiling.footprint(network.unet.architecture, 1, 4)
    monkeypatch.setattr(tiling, "free_memory", lambda device: 2 * voxel * 40_000)
    parts, space = passed(measured, network)
    assert any("tiles" in note and "GB" in note for note in space.notes)
    assert float((parts.mean - whole.mean).abs().max()) < 1e-7
    assert float((parts.sigma - whole.sigma).abs().max()) < 1e-7


def test_symmetric_passes_are_odd_and_homogeneous():
    network, measured = inverter(), head()
    flipped = head(scale=-1.0)
    doubled = head(scale=2.0)
    one, _ = passed(measured, network, symmetric=True)
    other, _ = passed(flipped, network, symmetric=True)
    twice, _ = passed(doubled, network, symmetric=True)
    assert torch.equal(one.mean, -other.mean)
    assert torch.equal(one.sigma, other.sigma)
    torch.testing.assert_close(twice.mean, 2 * one.mean, rtol=1e-4, atol=1e-6)
    plain, _ = passed(measured, network)
    assert not torch.allclose(plain.mean, one.mean, atol=1e-5)


def test_what_comes_out_lies_in_the_mask_and_can_be_followed_back():
    network, measured = inverter(), head()
    with Workspace(measured, CPU, "Test") as space:
        view = finished(seen(measured, network, space))
        out = network(view.inputs)
        padded = view.padded(out.mean, space)
        assert padded.shape == space.shape
        assert not padded[~space.region()].any()
        padded.square().sum().backward()
    assert all(p.grad is not None for p in network.unet.encoder.parameters())


def test_weights_are_offered_by_family_and_refused_otherwise(networks):
    assert offered("pdi") == ["pdi"]
    assert set(offered("pdi", "qsmnet")) == {"pdi", "qsmnet"}
    with pytest.raises(InputError, match=r"family 'qsmnet'; weights of pdi were expected"):
        opened("qsmnet", CPU, "pdi")
    broken = networks / "broken.json"
    broken.write_text("{}")
    try:
        assert "pdi" in offered("pdi")
    finally:
        broken.unlink()


@pytest.mark.parametrize("key", ["qsmnet", "pdi"])
def test_missing_weights_are_one_sentence(key, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_QSM_NETWORKS", str(tmp_path / "nothing"))
    monkeypatch.setattr("napari_qsm.networks.weights.shipped_folder", lambda: None)
    assert offered(key) == []
    with pytest.raises(InputError, match=f"no weights '{key}'; there are none") as error:
        next(find(key)(head()))
    assert str(error.value).count(". ") == 0


def test_own_weights_appear_and_run(networks):
    network = inverter()
    card = Card("mine", "My own", network.design, "pdi")
    path = write(card, network, networks)
    try:
        assert set(offered("pdi")) == {"mine", "pdi"}
        maps = finished(find("pdi")(head(), find("pdi").with_settings({"weights": "mine"})))
        assert any("'mine'" in note for note in maps.provenance.notes)
        assert maps.provenance.parameters["weights"] == "mine"
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink()


class Waiting(torch.nn.Module):
    """A layer that takes half a second."""

    def forward(self, values):
        time.sleep(0.5)
        return values


def test_cancelling_a_pass_is_prompt_and_gives_the_memory_back():
    network, measured = inverter(), head()
    network.unet.encoder[0].append(Waiting())
    network.unet.encoder[0].append(Waiting())
    with Workspace(measured, CPU, "Test") as space:
        view = finished(seen(measured, network, space))
        running = estimate(space, network, view)
        gone = weakref.ref(view.inputs)
        next(running)
        time.sleep(0.05)
        began = time.monotonic()
        running.close()
        assert time.monotonic() - began < 0.3
        del view, running
    for _ in range(50):
        gc.collect()
        if gone() is None:
            break
        time.sleep(0.1)
    assert gone() is None


def test_only_what_was_cropped_is_seen():
    measured = head()
    network = inverter()
    far = np.zeros((60, 60, 60), dtype=np.float32)
    far[20:50, 10:44, 30:58] = measured[Quantity.LOCAL_FIELD]
    mask = np.zeros(far.shape, dtype=bool)
    mask[20:50, 10:44, 30:58] = measured.mask
    moved = replace(
        measured,
        grid=Grid(far.shape, np.eye(4)),
        volumes={Quantity.LOCAL_FIELD: far, Quantity.MASK: mask},
    )
    with Workspace(moved, CPU, "Test") as space:
        view = finished(seen(moved, network, space))
    box = tuple(np.ptp(np.nonzero(measured.mask)[axis]) + 1 for axis in range(3))
    assert view.shape == box
    assert view.mask.shape[-3:] == tuple(n + 2 * learned.MARGIN for n in box)

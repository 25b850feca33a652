"""LPCNN: what the method adds to its network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished
from napari_qsm.methods.registry import find
from napari_qsm.networks import tiling
from napari_qsm.networks.weights import load_unrolled, write
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (26, 28, 24)


def head(scale=1.0):
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in SHAPE], indexing="ij")
    mask = sum(a**2 for a in axes) < 1
    chi = np.zeros(SHAPE, np.float32)
    chi[11:14, 12:16, 10:13] = 0.2
    grid = Grid(SHAPE, np.diag([1.0, 1.0, 1.2, 1.0]))
    field = DipoleConvolution(grid, padding=2.0)(torch.from_numpy(chi)).numpy()
    field = scale * (field + 1e-3 * rng.standard_normal(SHAPE)) * mask
    return Acquisition(grid, {Quantity.LOCAL_FIELD: field, Quantity.MASK: mask})


def run(measured, **settings):
    method = find("lpcnn")
    chosen = {"precision": "float32", "consistency": 0.0, **settings}
    return finished(method(measured, method.with_settings(chosen)))


def test_strong_fields_are_read_on_the_scale_of_weak_ones():
    one, strong = run(head())[Quantity.CHI], run(head(50.0))[Quantity.CHI]
    np.testing.assert_allclose(strong, 50 * one, atol=1e-3 * np.abs(strong).max())


def test_with_a_network_that_adds_nothing_it_explains_the_field_better_every_step(networks):
    network, card = load_unrolled("lpcnn")
    for values in network.proximal.parameters():
        values.data.zero_()
    path = write(replace(card, key="plain"), network, networks)
    method, told = find("lpcnn"), []
    try:
        settings = {"weights": "plain", "consistency": 0.0, "precision": "float32"}
        running = method(head(), method.with_settings(settings))
        maps = None
        while maps is None:
            try:
                step = next(running)
                if "change" in step.values:
                    told.append(step.preview())
            except StopIteration as done:
                maps = done.value
    finally:
        path.unlink()
        path.with_suffix(".safetensors").unlink()
    assert len(told) == 3
    measured = head()
    start = finished(find("tikhonov")(measured))[Quantity.CHI]
    dipole = DipoleConvolution(measured.grid, padding=1.5)

    def misfit(chi):
        chi = torch.as_tensor(np.array(chi))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        rest = dipole(chi).numpy() - measured[Quantity.LOCAL_FIELD]
        return float(np.linalg.norm(rest[measured.mask]))

    sizes = [misfit(start), *map(misfit, told)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.99 * sizes[0]


def test_tiles_give_what_one_pass_gives(monkeypatch):
    whole = run(head())[Quantity.CHI]
    monkeypatch.setattr(tiling, "free_memory", lambda device: 8_000_000)
    maps = run(head())
    assert any("tiles" in note for note in maps.provenance.notes)
    np.testing.assert_allclose(maps[Quantity.CHI], whole, atol=1e-6)


def test_weights_of_another_kind_are_refused_by_name():
    with pytest.raises(InputError, match=r"'qsmnet' .* in one pass; choose weights that .* step"):
        run(head(), weights="qsmnet")
    other = find("qsmnet")
    with pytest.raises(InputError, match=r"'lpcnn' .* step by step; choose weights that .* pass"):
        finished(other(head(), other.with_settings({"weights": "lpcnn"})))

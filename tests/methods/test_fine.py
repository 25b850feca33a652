"""FINE: what editing a trained network brings, and what it must leave alone."""

import numpy as np
import pytest
import torch

from napari_qsm.acquisition import Acquisition, Grid, InputError, Quantity
from napari_qsm.generators import finished, relayed
from napari_qsm.methods.inversion.fine import fine, mean_only
from napari_qsm.networks import weights
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card
from napari_qsm.physics import fourier
from napari_qsm.physics.dipole import DipoleConvolution

SHAPE = (28, 26, 24)
GRID = Grid(SHAPE, np.diag([1.2, 1.2, 1.2, 1.0]))
NOISE = 0.002


def head(lesion, seed=0):
    """A ball of weak tissue, with or without a strong sphere: its field, truth and lesion."""
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij")
    rng = np.random.default_rng(seed)
    mask = sum(a**2 for a in axes) < 11**2
    chi = np.zeros(SHAPE, np.float32)
    for _ in range(5):
        centre = rng.uniform(-6, 6, 3)
        ball = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < rng.uniform(4, 16)
        chi[ball] = rng.uniform(-0.05, 0.08)
    inside = sum((a - c) ** 2 for a, c in zip(axes, (3, -2, 1), strict=True)) < 9
    if lesion:
        chi[inside] = 0.8
    chi = np.where(mask, chi - chi[mask].mean(), 0).astype(np.float32)
    field = DipoleConvolution(GRID, padding=1.5)(torch.from_numpy(chi)).numpy()
    field += NOISE * rng.standard_normal(SHAPE)
    measured = Acquisition(GRID, {Quantity.LOCAL_FIELD: field * mask, Quantity.MASK: mask})
    return measured, chi, inside & mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of a network trained for a moment on heads without lesions."""
    made = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    design = Design(("field",), True, Architecture(widths=(8, 16), convolutions=1))
    network = Inverter(design)
    heads = [head(False, seed) for seed in range(4)]
    fields = torch.stack([torch.tensor(m[Quantity.LOCAL_FIELD])[None] for m, _, _ in heads])
    truth = torch.stack([torch.from_numpy(chi)[None] for _, chi, _ in heads])
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        (network(fields.float()).mean - truth).abs().mean().mul(20).backward()
        optimiser.step()
    weights.write(Card("pdi", "tiny", design, "pdi", calibration=2.0), network, made)
    return made


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))


def run(measured, **settings):
    running = fine(measured, fine.with_settings({"rate": 3e-3, "discrepancy": 0.0, **settings}))
    steps = []
    return finished(relayed(running, steps.append)), steps


@pytest.fixture(scope="module")
def edited(folder):
    """The map of a head with a lesion before and after 40 iterations, and the second's steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.FOLDER_VARIABLE, str(folder))
        case = head(True, seed=9)
        before, _ = run(case[0], iterations=1)
        after, steps = run(case[0], iterations=40)
    return case, before, after, steps


def test_the_residual_falls(edited):
    _, _, _, steps = edited
    curve = [s.values["residual"] for s in steps if "residual" in s.values]
    assert curve[-1] < 0.7 * curve[0]
    assert min(curve[len(curve) // 2 :]) < min(curve[: len(curve) // 2])


def test_a_lesion_that_was_never_learned_comes_to_its_value(edited):
    (_, chi, inside), before, after, _ = edited

    def slope(maps):
        return float(maps[Quantity.CHI][inside].mean() / chi[inside].mean())

    assert abs(slope(after) - 1) < abs(slope(before) - 1)
    assert slope(after) > 0.6


def test_where_the_field_says_it_the_error_falls(edited):
    (measured, chi, _), before, after, _ = edited
    symbol = DipoleConvolution(measured.grid, padded_shape=SHAPE).spectrum

    def error(maps):
        wrong = torch.from_numpy((maps[Quantity.CHI] - chi) * measured.mask).float()
        return float(fourier.spectrum(wrong)[symbol.abs() > 0.2].abs().square().sum())

    assert error(after) < 0.7 * error(before)


def test_an_edited_network_claims_no_sigma(edited, folder):
    """What it learned of its errors belongs to the weights that it had."""
    network, _ = weights.load_network("pdi")
    assert network.design.uncertain
    assert Quantity.SIGMA not in edited[2].volumes


def test_the_weights_on_disk_stay_as_they_were(edited, folder):
    network, _ = weights.load_network("pdi")
    again, _ = weights.load_network("pdi")
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    first, _ = run(edited[0][0], iterations=1)
    np.testing.assert_allclose(first[Quantity.CHI], edited[1][Quantity.CHI], atol=1e-6)


def test_it_stops_at_the_error_of_the_field(edited):
    measured = edited[0][0]
    maps, _ = run(measured, discrepancy=5.0, iterations=40)
    stopped = next(note for note in maps.provenance.notes if note.startswith("Stopped"))
    assert "the residual being the field's error" in stopped or "40 iterations" in stopped


@pytest.mark.parametrize("edit", ["decoder", "head"])
def test_a_part_of_the_network_can_be_edited(edited, edit):
    maps, steps = run(edited[0][0], iterations=6, edit=edit)
    curve = [s.values["residual"] for s in steps if "residual" in s.values]
    assert curve[-1] < curve[0]
    assert np.isfinite(maps[Quantity.CHI]).all()


def test_variation_flattens_and_phases_are_compared(edited):
    measured = edited[0][0]
    rough, _ = run(measured, iterations=15)
    flat, _ = run(measured, iterations=15, regularization=1e-2)

    def variation(maps):
        return np.abs(np.diff(maps[Quantity.CHI], axis=0)).sum()

    assert variation(flat) < 0.9 * variation(rough)
    phases, _ = run(measured, iterations=3, data="nonlinear")
    assert "phase_scale" in phases.provenance.chosen


def test_the_mean_alone_is_the_same_mean():
    network, _ = weights.load_network("pdi")
    field = torch.randn(1, 1, 12, 12, 12) * 0.02
    with torch.no_grad():
        alone = mean_only(network)(field)
        torch.testing.assert_close(alone.mean, network(field).mean)
    assert alone.sigma is None


def test_unknown_weights_are_a_sentence():
    with pytest.raises(InputError, match="no weights 'nothing'"):
        run(head(False)[0], weights="nothing")

"""Weights and their cards: found by key, checked before use, refused in one sentence."""

import json

import pytest
import torch

from napari_qsm.errors import InputError
from napari_qsm.networks import weights
from napari_qsm.networks.inverter import Design, Inverter
from napari_qsm.networks.unet import Architecture
from napari_qsm.networks.weights import Card, available, find, load_network, write

DESIGN = Design(("field", "tikhonov"), True, Architecture(widths=(4, 8), norm="scale"))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(weights, "shipped_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch, shipped):
    """The user's folder."""
    folder = tmp_path / "own"
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    return folder


def trained(seed=0):
    torch.manual_seed(seed)
    return Inverter(DESIGN)


def card(key="net", **more):
    return Card(key=key, title="A network", design=DESIGN, family="pdi", **more)


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_what_is_written_is_read(own):
    network = trained()
    told = card(calibration=1.1, statistics={"field": [0.0, 1.0]}, metrics={"nrmse": 40.0})
    path = write(told, network, own)
    assert path == own / "net.json"
    read, found = load_network("net")
    assert not read.training
    assert found.sha256
    assert found.design == DESIGN
    assert (found.calibration, found.statistics) == (1.1, {"field": [0.0, 1.0]})
    for name, value in network.state_dict().items():
        assert torch.allclose(read.state_dict()[name], value, rtol=1e-3, atol=1e-6)


def test_half_precision_changes_an_estimate_by_next_to_nothing(own):
    network = trained().eval()
    write(card(), network, own)
    read, _ = load_network("net")
    inputs = 0.03 * torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert (read(inputs).mean - network(inputs).mean).abs().max() < 5e-5  # 0.05 ppb


def test_who_loads_weights_may_change_them(own):
    write(card(), trained(), own)
    first, _ = load_network("net")
    with torch.no_grad():
        first.unet.decoders[0].head.weight.zero_()
    second, _ = load_network("net")
    assert second.unet.decoders[0].head.weight.abs().sum() > 0


def test_a_new_file_of_the_same_name_is_read_anew(own):
    write(card(), trained(0), own)
    first, _ = load_network("net")
    write(card(), trained(1), own)
    second, _ = load_network("net")
    name = "unet.encoder.0.0.weight"
    assert not torch.equal(first.state_dict()[name], second.state_dict()[name])


def test_the_users_weights_take_the_place_of_shipped_ones(own, shipped):
    write(card(limits="shipped"), trained(), shipped)
    write(card("other"), trained(), shipped)
    assert find("net").limits == "shipped"
    write(card(limits="own"), trained(1), own)
    assert find("net").limits == "own"
    assert list(available()) == ["net", "other"]
    assert available()["net"].parent == own


def test_weights_are_listed_by_family(own):
    write(card(), trained(), own)
    assert list(available("pdi")) == ["net"]
    assert available("qsmnet") == {}


def test_an_unknown_key_names_those_there_are(own, shipped):
    write(card(), trained(), shipped)
    with pytest.raises(InputError) as error:
        load_network("nothing")
    text = one_sentence(error)
    assert "'nothing'" in text
    assert "net" in text
    assert str(own) in text


def test_weights_of_another_card_are_refused(own):
    write(card(), trained(0), own)
    write(card("other"), trained(1), own)
    (own / "other.safetensors").rename(own / "net.safetensors")
    with pytest.raises(InputError) as error:
        load_network("net")
    assert "hash differs" in one_sentence(error)


def restated(own, **changes):
    """Change what the card says, the hash of the file included."""
    import hashlib

    stored = (own / "net.safetensors").read_bytes()
    told = json.loads((own / "net.json").read_text())
    told |= {"sha256": hashlib.sha256(stored).hexdigest(), **changes}
    (own / "net.json").write_text(json.dumps(told))


def test_a_damaged_file_is_refused(own):
    write(card(), trained(), own)
    path = own / "net.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    restated(own)
    with pytest.raises(InputError) as error:
        load_network("net")
    assert "damaged" in one_sentence(error)


def test_a_missing_file_is_named(own):
    write(card(), trained(), own)
    (own / "net.safetensors").unlink()
    with pytest.raises(InputError) as error:
        load_network("net")
    assert "net.safetensors cannot be read" in one_sentence(error)


def test_weights_that_do_not_fit_their_architecture_are_refused(own):
    write(card(), trained(), own)
    design = json.loads((own / "net.json").read_text())["design"]
    design["architecture"]["widths"] = [4, 8, 16]
    restated(own, design=design)
    with pytest.raises(InputError) as error:
        load_network("net")
    assert "do not fit the network their card describes" in one_sentence(error)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"key": 1}', '{"design": {}}'])
def test_a_file_that_is_no_card_is_refused(own, text):
    own.mkdir()
    (own / "net.json").write_text(text)
    with pytest.raises(InputError) as error:
        find("net")
    assert "is not the card of a network" in one_sentence(error)


def test_without_any_folder_there_are_none(monkeypatch):
    monkeypatch.setattr(weights, "shipped_folder", lambda: None)
    assert available() == {}
    with pytest.raises(InputError, match="there are none"):
        find("net")

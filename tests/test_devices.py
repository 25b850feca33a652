import pytest
import torch

from napari_qsm import devices
from napari_qsm.acquisition import InputError


def test_the_cpu_is_always_there_and_comes_last():
    assert devices.available()[-1] == "cpu"
    assert devices.choose("cpu") == torch.device("cpu")
    assert devices.choose(" CPU ") == torch.device("cpu")


def test_auto_takes_the_preferred_device(monkeypatch):
    assert devices.choose("auto").type == devices.available()[0].split(":")[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.available()[:2] == ["cuda", "cuda:1"]
    assert devices.choose() == torch.device("cuda")
    assert devices.choose("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda:17", "tpu", "", "gpu0", "meta"])
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    with pytest.raises(InputError, match=r"not available here; use auto or .*cpu\.$"):
        devices.choose(name)


def test_devices_are_described_in_words():
    assert devices.describe("cpu").startswith(f"cpu, {torch.get_num_threads()} thread")


@pytest.mark.cuda
def test_a_graphics_card_is_named():
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    assert torch.cuda.get_device_name(0) in devices.describe(devices.choose("cuda"))

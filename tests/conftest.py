"""What every test runs under."""

import gc
import importlib.util
import os
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from napari_qsm.networks.weights import FOLDER_VARIABLE


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread: tests are small, and two threads wait for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def networks(tmp_path_factory):
    """A user's folder with tiny weights of every family, so that every method can run."""
    folder = tmp_path_factory.mktemp("networks")
    beside("toys").write_networks(folder)
    beside("separated").write_networks(folder)
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    yield folder
    os.environ.pop(FOLDER_VARIABLE)
    if before is not None:
        os.environ[FOLDER_VARIABLE] = before


def pytest_collection_finish():
    """Spare what imports made: tests collect garbage hundreds of times to see what is left."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def beside(name):
    """Load a module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toys():
    """Six registered stages that take no time, one for each place; see ``tests/toys.py``."""
    module = beside("toys")
    module.register()
    yield module
    module.remove()


@pytest.fixture
def separated():
    """Little heads with iron and myelin, and tiny networks for them; ``tests/separated.py``."""
    return beside("separated")


@pytest.fixture
def tiny(tmp_path):
    """Function that makes a training of a second in the test's folder; see ``tests/tiny.py``."""
    return partial(beside("tiny").tiny, tmp_path)

"""What every test runs under."""

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread: tests are small, and two threads wait for each other on a busy machine."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def toys():
    """Six registered stages that take no time, one for each place; see ``tests/toys.py``."""
    spec = importlib.util.spec_from_file_location("toys", Path(__file__).parent / "toys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.register()
    yield module
    module.remove()

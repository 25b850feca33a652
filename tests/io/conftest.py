from pathlib import Path

import pytest


@pytest.fixture
def shared_data():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the development data are not at {folder}")
    return folder

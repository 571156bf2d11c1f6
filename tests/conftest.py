"""What several test files need: the folder of shared research data, which is not part of the package."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared():
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the shared folder with reference data is not beside this checkout")
    return folder

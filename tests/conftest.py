"""What several test files need: the folder of shared research data, which is not part of the package."""

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # The test processes share the cores already, and so do the commands that they start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared():
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the shared folder with reference data is not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory):
    """Keep the user's own cache out of the tests: weights that were converted there would run by another engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRACKTOOL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def same_weights():
    """Give networks the same random weights in every run, and leave the generator as it was."""
    import torch  # not above: it takes the number of threads when it is loaded

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

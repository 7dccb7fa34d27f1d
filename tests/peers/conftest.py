import importlib.util

import pytest


@pytest.fixture(scope="session")
def peers():
    """The module torch_models; skips the test unless PyTorch, torchvision and timm are installed."""
    missing = [name for name in ("torch", "torchvision", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; `make test-peers` installs the peers")
    from tests.peers import torch_models

    return torch_models

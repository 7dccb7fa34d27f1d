import importlib
import importlib.util
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def peers() -> ModuleType:
    """The module torch_models; skips the test unless PyTorch, torchvision and timm are installed."""
    return _import("torch_models", "torch", "torchvision", "timm")


@pytest.fixture(scope="session")
def transformers_peers(peers) -> ModuleType:
    """The module transformers_models; skips the test unless transformers is installed too."""
    return _import("transformers_models", "transformers")


def _import(module: str, *libraries: str) -> ModuleType:
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; `make test-peers` installs the peers")
    return importlib.import_module(f"tests.peers.{module}")

from types import SimpleNamespace

import pytest


@pytest.fixture
def family():
    """A made-up family of models with values that no real one has."""
    return SimpleNamespace(
        name="toy",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        dropout_rate=0.7,
        optimizer="adamw",
        options={},
        has_batch_norm=True,
    )

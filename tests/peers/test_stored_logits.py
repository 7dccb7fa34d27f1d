"""The stored logits of tests/pretrained/test_stored_peers.py, computed again by the peers."""

import json

import numpy as np
import pytest

from tests.pretrained.test_stored_peers import CASES, STORED
from tests.published import relative_difference

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", CASES)
def test_stored_logits_equal_the_peers(name, peers):
    from tests.peers.write_stored_logits import peer_logits

    stored = np.array(json.loads(STORED.read_text())[name]["logits"])
    assert relative_difference(peer_logits(name), stored) <= 1e-5

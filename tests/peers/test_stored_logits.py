"""The stored logits of tests/pretrained/test_stored_peers.py, computed again by the peers."""

import json

import numpy as np
import pytest

from tests.pretrained.test_stored_peers import CASES, STORED
from tests.published import relative_difference

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", CASES)
def test_stored_logits_equal_the_peers(name, transformers_peers):
    from tests.peers.write_stored_logits import peer_case

    stored, again = json.loads(STORED.read_text())[name], peer_case(name)
    assert stored.keys() == again.keys()
    assert stored.get("shapes") == json.loads(json.dumps(again.get("shapes")))
    for key in ("logits", "resampled"):
        if key in stored:
            assert relative_difference(np.array(again[key]), np.array(stored[key])) <= 1e-5

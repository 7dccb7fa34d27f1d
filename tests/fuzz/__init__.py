"""Fuzzing of names, folders, metadata and environments; a module per kind.

The suite tries a few fixed examples. To try many random ones:

    FUZZ_EXAMPLES=1000 pytest tests/fuzz
"""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
# Decorator of a fuzz test.
fuzz = settings(
    max_examples=EXAMPLES or 8,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

"""Our models with the weights of a file."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from animesion_jax.models import HEAD, abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.peer_cases import Case
from tests.published import relative_difference

# Rounding makes 1e-6 to 1e-5. The two GELUs differ by 5e-5 at least.
LIMIT = 3e-5


def load(case: Case, file: str, image_size: int) -> tuple[nn.Module, dict[str, Any]]:
    """Returns our model of a case for an image size, and its variables from a file."""
    options = {"num_layers": case.peer_layers, **case.options}
    model = create_model(case.model, num_classes=case.classes or 7, image_size=image_size, **options)
    return model, load_pretrained(file, model, abstract_variables(model, image_size), keep_head=True)


def features_and_logits(model: nn.Module, variables: dict[str, Any], images: np.ndarray) -> tuple[Any, Any]:
    """Returns the classifier's input and output for (batch, S, S, 3) images."""

    @jax.jit
    def apply(variables, images):
        kept = []

        def keep(method, arguments, options, context):
            if context.module.name == HEAD and context.method_name == "__call__":
                kept.append(arguments[0])
            return method(*arguments, **options)

        with nn.intercept_methods(keep):
            logits = model.apply(variables, images)
        return kept[0], logits

    return apply(variables, images)


def check(case: Case, file: str, images: np.ndarray, expected: tuple[np.ndarray, np.ndarray | None]) -> None:
    """Asserts that our features and logits with a file are the peer's; without a classifier, the features alone."""
    features, logits = features_and_logits(*load(case, file, images.shape[1]), images)
    assert relative_difference(features, expected[0]) <= LIMIT
    if case.classes:
        assert relative_difference(logits, expected[1]) <= LIMIT
    else:
        assert not np.any(logits)

import pytest

from animesion_jax.config import FIELDS, changes_result, default_config, flatten, may_change, stage, to_tree
from animesion_jax.models import family_of


def _flat(**values):
    config = default_config()
    config.update(values)
    return flatten(to_tree(config))


def test_changes_result_is_false_for_fields_without_effect_in_any_config():
    values = _flat(pretrained="x", schedule="cosine", detector="d.onnx")
    neutral = {name for name in FIELDS if not changes_result(name, values)}
    assert neutral - {"decay_epochs", "decay_factor"} == {
        "data_dir", "data.cache", "eval_batch_size", "log_every_steps", "checkpoint_every_steps",
        "keep_last_checkpoints", "default_weights",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "changes"),
    [
        ("keep_head", {}, False),
        ("keep_head", {"pretrained": "file"}, True),
        ("decay_factor", {"schedule": "cosine"}, False),
        ("warmup_epochs", {"schedule": "piecewise"}, False),
        # A stage that follows a cosine uses the warm-up of the config.
        ("warmup_epochs", {"stages": (stage(), stage(schedule="cosine"))}, True),
        ("stages[1].warmup_epochs", {"stages": (stage(), stage(schedule="cosine", warmup_epochs=1))}, True),
        ("stages[0].warmup_epochs", {"stages": (stage(warmup_epochs=1), stage(schedule="cosine"))}, False),
    ],
)
def test_changes_result_is_true_only_where_the_field_is_used(name, values, changes):
    assert changes_result(name, _flat(**values)) == changes


@pytest.mark.parametrize(
    ("model", "used"),
    [
        ("vit_b16", {"vit.gelu"}),
        ("resnet18", {"resnet.initializer", "grad_accumulation"}),
        ("shallownet", {"grad_accumulation"}),
    ],
)
def test_options_of_other_families_change_nothing(model, used):
    names = ("vit.gelu", "resnet.initializer", "grad_accumulation")
    assert {name for name in names if changes_result(name, _flat(model=model), family_of(model))} == used
    assert all(changes_result(name, _flat(model=model)) for name in names)


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("data_dir", {}, True),
        ("test_split", {}, True),
        ("learning_rate", {}, False),
        ("epochs", {}, True),
        ("epochs", {"schedule": "cosine"}, False),
        ("epochs", {"stages": (stage(), stage())}, False),
        ("stages[0].epochs", {"stages": (stage(epochs=3),)}, True),
        ("stages[1].epochs", {"stages": (stage(), stage(epochs=3))}, False),
    ],
)
def test_may_change_depends_on_field_schedule_and_stage(name, values, allowed):
    assert may_change(name, _flat(**values)) == allowed

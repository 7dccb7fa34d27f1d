import pytest

from animesion_jax.config import default_config, resolve, stage, stage_configs
from animesion_jax.configs import dafre_128, dafre_224
from animesion_jax.models import family_of


def test_null_normalisation_and_dropout_are_the_familys(family):
    config = resolve(default_config(), family)
    assert (config.mean, config.std, config.dropout_rate) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 0.7)
    # The paper trains every family with SGD.
    assert (config.optimizer, config.learning_rate) == ("sgd", 1e-3)


def test_resolve_leaves_given_values_and_the_config_alone(family):
    config = default_config()
    config.mean, config.dropout_rate = (0.5, 0.5, 0.5), 0.0
    resolved = resolve(config, family)
    assert (resolved.mean, resolved.std, resolved.dropout_rate) == ((0.5, 0.5, 0.5), (0.4, 0.5, 0.6), 0.0)
    assert config.std is None


# Goyal et al. (2017): 0.1 for 256 images and in proportion; a tenth of it for fine-tuning.
@pytest.mark.parametrize(
    ("batch_size", "weights", "rate"),
    [(64, "", 0.025), (1024, "", 0.4), (64, "imagenet", 0.0025)],
)
def test_modern_sgd_rate_follows_batch_size_and_pretrained(batch_size, weights, rate):
    config = dafre_128.get_config("resnet18,recipe=modern")
    config.batch_size, config.pretrained = batch_size, weights
    first = stage_configs(config, family_of("resnet18"))[0]
    assert (first.optimizer, first.weight_decay) == ("sgd", 5e-4)
    assert first.learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(("batch_size", "weights", "rate"), [(64, "", 5e-4), (1024, "", 5e-4), (64, "imagenet", 5e-5)])
def test_modern_adamw_rate_follows_pretrained_alone(batch_size, weights, rate):
    config = dafre_224.get_config("vit_b16,recipe=modern")
    config.batch_size, config.pretrained = batch_size, weights
    first = stage_configs(config, family_of("vit_b16"))[0]
    assert (first.optimizer, first.weight_decay, first.learning_rate) == ("adamw", 0.05, rate)


@pytest.mark.parametrize(("epochs", "warmup"), [(14, 1.4), (50, 5.0), (200, 5.0)])
def test_modern_warmup_is_a_tenth_of_the_epochs_and_at_most_five(epochs, warmup):
    config = dafre_128.get_config("resnet18,recipe=modern")
    config.epochs = epochs
    assert stage_configs(config, family_of("resnet18"))[0].warmup_epochs == pytest.approx(warmup)
    assert config.warmup_epochs is None


def test_modern_recipe_is_two_stages():
    first, second = stage_configs(dafre_128.get_config("vit_b16,recipe=modern"), family_of("vit_b16"))
    assert (first.epochs, first.trainable, first.class_weights, first.optimizer) == (50, "all", "none", "adamw")
    assert (second.epochs, second.trainable, second.class_weights, second.optimizer) == (10, "head", "balanced", "sgd")
    assert (second.learning_rate, second.schedule, second.warmup_epochs, second.weight_decay) == (0.01, "cosine", 0, 0)
    assert first.batch_size == second.batch_size == 64


def test_stage_configs_override_fields_before_deriving_nulls(family):
    config = default_config()
    config.batch_size, config.learning_rate, config.weight_decay = 128, None, None
    config.stages = (stage(), stage(optimizer="adamw", augment={"hue": 0.0}, warmup_epochs=0.5))
    first, second = stage_configs(config, family)
    assert (first.learning_rate, first.weight_decay, first.augment.hue) == (pytest.approx(0.05), 5e-4, 0.1)
    assert (second.learning_rate, second.weight_decay, second.augment.hue) == (5e-4, 0.05, 0.0)
    assert (first.warmup_epochs, second.warmup_epochs) == (0.0, 0.5)


def test_stage_configs_skip_a_stage_of_0_epochs(family):
    config = default_config()
    config.stages = (stage(), stage(epochs=0), stage(epochs=7))
    assert [each.epochs for each in stage_configs(config, family)] == [50, 7]


def test_stage_configs_have_one_stage_and_no_nulls(family):
    config = default_config()
    config.stages = (stage(epochs=3), stage(epochs=7))
    (second,) = stage_configs(stage_configs(config, family)[1], family)
    assert second.epochs == 7
    assert None not in (value for name, value in second.items() if name != "stages")

"""`faithful`: the start of the layers, and two epochs of three updates, ours and PyTorch's.

Both train in float64: in float32 a ReLU that rounding flips moves gradients by 1 %, in either library. Dropout is off,
since no two libraries draw the same masks.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import traverse_util

from animesion_jax.config import stage_configs
from animesion_jax.distributed import AXIS
from animesion_jax.models import family_of, init_variables
from animesion_jax.preprocessing import normalize
from animesion_jax.pretrained.timm_vit import to_timm
from animesion_jax.pretrained.torch_layout import TORCH_LEAVES, to_torch_layout
from animesion_jax.pretrained.torchvision import to_torchvision
from animesion_jax.training.device_data import on_devices
from animesion_jax.training.stages import Stage, make_stages
from animesion_jax.workdir.run import build_model

pytestmark = pytest.mark.peers

CLASSES, SIZE, BATCH, STEPS = 6, 32, 16, 3
RUNS = ("shallownet,faithful", "resnet18,faithful", "resnet18,pretrained,faithful", "vit_ti16,faithful")


def _to_shallownet(variables):
    """Returns ShallowNet's variables as the state dict of `torch_models.shallownet`."""
    arrays = traverse_util.flatten_dict(variables, sep="/")
    # We flatten (height, width, channels), PyTorch (channels, height, width).
    hidden = arrays["params/Dense_0/kernel"]
    side = round((len(hidden) / 32) ** 0.5)
    arrays["params/Dense_0/kernel"] = hidden.reshape(side * side, 32, -1).swapaxes(0, 1).reshape(hidden.shape)
    modules = {"Conv_0": 0, "BatchNorm_0": 1, "Conv_1": 4, "BatchNorm_1": 5, "Dense_0": 9, "head": 12}
    state = {}
    for name, array in arrays.items():
        _, module, leaf = name.split("/")
        state[f"{modules[module]}.{TORCH_LEAVES[leaf]}"] = to_torch_layout(array)
    return state


TO_TORCH = {"shallownet": _to_shallownet, "resnet": to_torchvision, "vit": to_timm}


def _config(argument):
    """Returns a faithful config without augmentation and dropout."""
    config = importlib.import_module("animesion_jax.configs.dafre_128").get_config(argument)
    config.image_size, config.crop_margin, config.batch_size, config.dropout_rate = SIZE, 0, BATCH, 0.0
    config.augment.update(dict.fromkeys(config.augment, 0.0))
    return config


def _make_stage(argument) -> Stage:
    """Returns the stage of a faithful run with three updates an epoch."""
    config = _config(argument)
    model = build_model(config, CLASSES, AXIS).clone(dtype=jnp.float64)
    configs = stage_configs(config, family_of(config.model))
    return make_stages(configs, model, jax.local_devices()[:1], STEPS, lambda: None)[0]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("argument", RUNS)
def test_updates_of_a_faithful_run_agree_with_pytorch(argument, peers, float64):
    """The first epoch trains in training mode, the second in evaluation mode."""
    stage = _make_stage(argument)
    config, to_torch = stage.config, TO_TORCH[family_of(stage.config.model).name]
    start = jax.tree.map(np.float64, init_variables(stage.model, SIZE, 0))
    before = to_torch(start)
    peer = peers.with_state(peers.untrained(config.model, CLASSES, SIZE), before)
    trainer = peers.Trainer(peer, config.learning_rate, config.momentum, head_only=config.trainable == "head")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * STEPS, BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, (2 * STEPS, BATCH), dtype=np.int32)
    batches = [
        {"image": images[step], "label": labels[step], "mask": np.ones(BATCH, np.float32)} for step in range(2 * STEPS)
    ]
    normalized = np.asarray(jax.jit(lambda images: normalize(images, config.mean, config.std))(images))

    state = stage.begin(start)
    for step, batch in enumerate(on_devices(batches, stage.devices)):
        state, sums = stage.train_step(step)(state, batch)
        loss = trainer.update(normalized[step], labels[step], train_mode=step < STEPS)
        assert sums["loss"] / BATCH == pytest.approx(loss, rel=1e-6)
        if step + 1 == STEPS:
            trainer.bias_variances(before, STEPS)
        if (step + 1) % STEPS == 0:
            _check_moved_together(before, to_torch(jax.device_get(state.variables)), trainer.arrays())


def _check_moved_together(before, ours, theirs):
    assert ours.keys() <= theirs.keys()
    for name, array in ours.items():
        if name.endswith("num_batches_tracked"):
            continue
        difference = np.linalg.norm(array - theirs[name])
        assert difference <= 1e-3 * np.linalg.norm(array - before[name]) + 1e-12, name
        assert np.abs(array - theirs[name]).max(initial=0.0) <= 1e-7, name


# Layers that start as PyTorch's defaults, by the names of the peers.
DEFAULTS = {
    "shallownet": ("0", "4", "9", "12"),
    "resnet18": ("fc",),
    "vit_ti16": ("patch_embed.proj",),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_layers_start_with_the_distribution_of_pytorch(name, peers):
    """By the test of Kolmogorov and Smirnov, on two starts together: a bias of ShallowNet has 16 values."""
    model = build_model(_config(f"{name},faithful"), num_classes=100)
    starts = [TO_TORCH[family_of(name).name](jax.device_get(init_variables(model, SIZE, seed))) for seed in (0, 1)]
    peer = peers.untrained(name, 100, SIZE)
    for layer in DEFAULTS[name]:
        theirs = [peers.start_again(peer.get_submodule(layer)) for _ in starts]
        for leaf in ("weight", "bias"):
            ours = np.concatenate([each[f"{layer}.{leaf}"].ravel() for each in starts])
            drawn = np.concatenate([each[leaf].ravel() for each in theirs])
            assert scipy.stats.ks_2samp(ours, drawn).pvalue > 1e-4, f"{layer}.{leaf}"

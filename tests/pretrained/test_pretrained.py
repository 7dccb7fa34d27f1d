"""Weights to start from: every array of a file and every variable of a model is accounted for."""

import io
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

import flax.serialization
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import MODELS, abstract_variables, create_model, family_of
from animesion_jax.pretrained import load_pretrained, sources
from configs import dafre_128

# A ViT-B/16 in small; with the stem, R50+ViT-B/16 with one unit in each stage.
TINY = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 12, "dropout_rate": 0.0}
BLOCK = "Transformer/encoderblock_{}/"
ATTENTION = "MultiHeadDotProductAttention_"


def _model(name="vit_b16", image_size=64, num_classes=5, **options):
    """Returns a tiny ViT or hybrid, and the abstract variables of it."""
    model = create_model(name, num_classes=num_classes, image_size=image_size, **(TINY | options))
    return model, abstract_variables(model, image_size)


def _published(tokens=17, classes=7, pre_logits=False, cls=True, linen=False, stem=(), patch=16):
    """Returns random arrays by the names and shapes that google_vit_checkpoints.md lists."""
    draw = np.random.default_rng(1)
    norm, attention, mlp = ("LayerNorm_1", f"{ATTENTION}0", "MlpBlock_0") if linen else (
        "LayerNorm_2", f"{ATTENTION}1", "MlpBlock_3")  # fmt: skip
    inputs = 64 * 2 ** (len(stem) + 1) if stem else 3
    shapes = {
        "embedding/kernel": (1 if stem else patch, 1 if stem else patch, inputs, 8), "embedding/bias": (8,),
        "Transformer/posembed_input/pos_embedding": (1, tokens, 8),
        "Transformer/encoder_norm/scale": (8,), "Transformer/encoder_norm/bias": (8,),
        "head/kernel": (8, classes), "head/bias": (classes,),
    }  # fmt: skip
    if cls:
        shapes["cls"] = (1, 1, 8)
    if pre_logits:
        shapes |= {"pre_logits/kernel": (8, 8), "pre_logits/bias": (8,)}
    for layer in range(2):
        block = {
            "LayerNorm_0/scale": (8,), "LayerNorm_0/bias": (8,), f"{norm}/scale": (8,), f"{norm}/bias": (8,),
            f"{attention}/out/kernel": (2, 4, 8), f"{attention}/out/bias": (8,),
            f"{mlp}/Dense_0/kernel": (8, 12), f"{mlp}/Dense_0/bias": (12,),
            f"{mlp}/Dense_1/kernel": (12, 8), f"{mlp}/Dense_1/bias": (8,),
        }  # fmt: skip
        for part in ("query", "key", "value"):
            block |= {f"{attention}/{part}/kernel": (8, 2, 4), f"{attention}/{part}/bias": (2, 4)}
        shapes |= {BLOCK.format(layer) + name: shape for name, shape in block.items()}
    if stem:
        shapes |= {"conv_root/kernel": (7, 7, 3, 64), "gn_root/scale": (1, 1, 1, 64), "gn_root/bias": (1, 1, 1, 64)}
    for stage, units in enumerate(stem):
        width, before = 64 * 2**stage, 64 if stage == 0 else 128 * 2**stage
        for unit in range(units):
            sizes = {"1": (1, 1, before if unit == 0 else 4 * width, width), "2": (3, 3, width, width)}
            sizes |= {"3": (1, 1, width, 4 * width)} | ({"_proj": (1, 1, before, 4 * width)} if unit == 0 else {})
            for place, shape in sizes.items():
                prefix = f"block{stage + 1}/unit{unit + 1}/"
                shapes |= {f"{prefix}conv{place}/kernel": shape}
                shapes |= {f"{prefix}gn{place}/{leaf}": (1, 1, 1, shape[-1]) for leaf in ("scale", "bias")}
    return {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def _save(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def _flat(variables):
    return traverse_util.flatten_dict(variables["params"], sep="/")


def _refused(path, model, variables, *words, keep_head=False):
    """Asserts that loading is refused in one line that has the words; returns the line."""
    with pytest.raises(InputError) as caught:
        load_pretrained(str(path), model, variables, keep_head)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (str(path), *words)), message
    return message


# Old names against linen's, as the note lists them.
RENAMED = {"LayerNorm_2": "LayerNorm_1", f"{ATTENTION}1": f"{ATTENTION}0", "MlpBlock_3": "MlpBlock_0"}


@pytest.mark.parametrize("prefix", ["", "opt/target/", "params/", "opt/target/params/"])
@pytest.mark.parametrize("linen", [False, True], ids=["old names", "linen names"])
def test_every_array_of_a_google_file_goes_where_the_note_says(tmp_path, prefix, linen, capsys):
    arrays = _published(classes=5, linen=linen)
    extra = {"opt/state/step": np.int32(3), "opt/state/param_states/cls/grad_ema": arrays["cls"]} if prefix else {}
    file = _save(tmp_path / "w.npz", {f"{prefix}{name}": array for name, array in arrays.items()} | extra)
    loaded = _flat(load_pretrained(file, *_model(), keep_head=True))
    expected = {"/".join(RENAMED.get(part, part) for part in name.split("/")): a for name, a in arrays.items()}
    if linen:
        expected = arrays
    assert loaded.keys() == expected.keys()
    for name, array in loaded.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name], name)
    lines = capsys.readouterr().err.splitlines()
    counts = [int(line.split()[1]) for line in lines[2:]]
    assert sum(counts) == len(arrays) + len(extra)
    assert any("optimizer state" in line for line in lines) == bool(extra)


def test_the_summary_has_a_line_for_each_group(tmp_path, capsys):
    file = _save(tmp_path / "w.npz", _published(pre_logits=True, tokens=5))
    load_pretrained(file, *_model())
    assert capsys.readouterr().err.splitlines() == [
        f"weights from {file}:",
        "                              arrays       values",
        "  Transformer/encoder_norm         2           16  loaded",
        "  Transformer/encoderblock_*      32        1,064  loaded",
        "  Transformer/posembed_input       1          136  resampled, 5 to 17 tokens",
        "  cls                              1            8  loaded",
        "  embedding                        2        6,152  loaded",
        "  head                             2           45  re-initialised to zero",
        "  head                             2           63  left out: the file's classifier (8, 7)",
        "  pre_logits                       2           72  left out: the model has no pre_logits",
    ]


def test_bfloat16_comes_back_from_void(tmp_path):
    arrays = _published()
    stored = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    loaded = _flat(load_pretrained(_save(tmp_path / "w.npz", stored), *_model()))
    with np.load(tmp_path / "w.npz") as archive:
        assert archive["cls"].dtype.kind == "V"
    # bfloat16 is the upper half of float32, rounded to nearest.
    bits = arrays["embedding/kernel"].view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(loaded["embedding/kernel"], rounded)


@pytest.mark.parametrize("classes", [5, 7])
@pytest.mark.parametrize("keep_head", [False, True])
def test_the_head_is_kept_where_it_fits_and_is_asked_for(tmp_path, classes, keep_head):
    arrays = _published(classes=classes)
    loaded = _flat(load_pretrained(_save(tmp_path / "w.npz", arrays), *_model(), keep_head))
    kept = keep_head and classes == 5
    for leaf, shape in (("kernel", (8, 5)), ("bias", (5,))):
        expected = arrays[f"head/{leaf}"] if kept else np.zeros(shape)
        np.testing.assert_array_equal(loaded[f"head/{leaf}"], expected)


def test_half_a_head_is_not_kept_in_silence(tmp_path):
    arrays = _published(classes=5)
    del arrays["head/bias"]
    file = _save(tmp_path / "w.npz", arrays)
    _refused(file, *_model(), "'params/head/bias' (5,) is not in the file", keep_head=True)
    assert not _flat(load_pretrained(file, *_model()))["head/kernel"].any()


def test_pre_logits_on_request_is_a_tanh_layer(tmp_path):
    arrays = _published(classes=5, pre_logits=True)
    file = _save(tmp_path / "w.npz", arrays)
    images = np.random.default_rng(2).standard_normal((2, 64, 64, 3), np.float32)
    model, abstract = _model(pre_logits=True)
    logits = jax.jit(model.apply)(load_pretrained(file, model, abstract, keep_head=True), images)
    features_model, abstract = _model(num_classes=8)  # its classifier made to hand its input through
    variables = load_pretrained(file, features_model, abstract)
    variables["params"]["head"]["kernel"] = np.eye(8, dtype=np.float32)
    features = np.asarray(jax.jit(features_model.apply)(variables, images))
    hidden = np.tanh(features @ arrays["pre_logits/kernel"] + arrays["pre_logits/bias"])
    np.testing.assert_allclose(logits, hidden @ arrays["head/kernel"] + arrays["head/bias"], atol=1e-4)


def test_pre_logits_that_are_not_in_the_file_are_not_made_up(tmp_path):
    model = _model(pre_logits=True)
    _refused(_save(tmp_path / "w.npz", _published()), *model, "--config.vit.pre_logits=False")


def test_mean_pooled_files_have_no_class_token(tmp_path):
    file = _save(tmp_path / "w.npz", _published(tokens=4, cls=False))
    loaded = _flat(load_pretrained(file, *_model(pool="mean")))
    assert loaded["Transformer/posembed_input/pos_embedding"].shape == (1, 16, 8) and "cls" not in loaded
    _refused(file, *_model(), "pool='mean', the model pool='token'", "--config.vit.pool=mean")
    _refused(_save(tmp_path / "t.npz", _published()), *_model(pool="mean"), "--config.vit.pool=token")


def _bilinear(grid, side):
    """Align-corners bilinear by its definition: output i samples at i (g - 1) / (g' - 1)."""
    places = np.linspace(0, len(grid) - 1, side)
    low = np.minimum(np.floor(places).astype(int), max(len(grid) - 2, 0))
    high, part = np.minimum(low + 1, len(grid) - 1), places - low
    rows = grid[low] * (1 - part)[:, None, None] + grid[high] * part[:, None, None]
    return rows[:, low] * (1 - part)[None, :, None] + rows[:, high] * part[None, :, None]


@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize(("old", "new"), [(14, 8), (7, 4), (24, 14), (3, 8), (1, 4), (14, 1), (2, 2)])
def test_position_embeddings_are_resampled_between_aligned_corners(tmp_path, old, new, cls):
    arrays = _published(tokens=old * old + cls, cls=cls)
    table = arrays["Transformer/posembed_input/pos_embedding"][0]
    model = _model(image_size=16 * new, pool="token" if cls else "mean")
    loaded = _flat(load_pretrained(_save(tmp_path / "w.npz", arrays), *model))
    result = loaded["Transformer/posembed_input/pos_embedding"][0]
    np.testing.assert_array_equal(result[:cls], table[:cls])
    grid = _bilinear(table[cls:].astype(np.float64).reshape(old, old, 8), new)
    np.testing.assert_allclose(result[cls:].reshape(new, new, 8), grid, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 13, 18])
def test_a_grid_that_is_no_square_is_refused(tmp_path, tokens):
    words = [f"{tokens} tokens", "17", f"{tokens - 1} patches", "square"]
    _refused(_save(tmp_path / "w.npz", _published(tokens=tokens)), *_model(), *words)


def test_a_hybrids_group_norm_is_squeezed_and_every_unit_is_there(tmp_path):
    arrays = _published(tokens=5, stem=(1, 2, 1))
    model = _model("r50_vit_b16", image_size=32, stem_sizes=(1, 2, 1))
    loaded = _flat(load_pretrained(_save(tmp_path / "w.npz", arrays), *model))
    assert len(loaded) == len(arrays)
    for name, array in arrays.items():
        if "/gn" in name or name.startswith("gn"):
            np.testing.assert_array_equal(loaded[name], array[0, 0, 0], name)
        elif "conv" in name:
            np.testing.assert_array_equal(loaded[name], array, name)


def test_every_offender_is_listed_with_its_shapes(tmp_path):
    arrays = _published()
    del arrays["Transformer/encoder_norm/bias"]
    arrays["Transformer/encoder_norm/scale"] = np.zeros((), np.float32)
    arrays["embedding/bias"] = np.zeros((9,), np.float32)
    arrays["cls"] = np.zeros((1, 1, 8), np.int32)
    arrays["Transformer/encoderblock_0/LayerNorm_1/bias"] = np.zeros((8,), np.float32)
    arrays["surplus/kernel"] = np.zeros((2, 3), np.float32)
    message = _refused(
        _save(tmp_path / "w.npz", arrays), *_model(), "VisionTransformer", "in 6 arrays",
        "'params/Transformer/encoder_norm/bias' (8,) is not in the file",
        "'Transformer/encoder_norm/scale' is () in the file, (8,) in the model",
        "'embedding/bias' is (9,) in the file, (8,) in the model",
        "'cls' (1, 1, 8) is int32", "bfloat16",
        "'Transformer/encoderblock_0/LayerNorm_2/bias' and 'Transformer/encoderblock_0/LayerNorm_1/bias' (8,) both",
        "'surplus/kernel' (2, 3) has no place in the model",
    )  # fmt: skip
    assert "head" not in message


@pytest.mark.parametrize("name", ["embedding/kernel", "query/kernel", "MlpBlock_3/Dense_0/kernel", "pos_embedding"])
def test_arrays_without_dimensions_are_offenders_too(tmp_path, name):
    arrays = _published()
    wrong = [key for key in arrays if key.endswith(name)]
    arrays |= {key: np.zeros((), np.float32) for key in wrong}
    _refused(_save(tmp_path / "w.npz", arrays), *_model(), *(f"'{key}' is () in the file" for key in wrong))


@pytest.mark.parametrize(
    ("file", "model", "words"),
    [
        ("vit_b32", "vit_b16", ["holds vit_b32, the model is vit_b16"]),
        ("vit_b16", "vit_l16", ["holds vit_b16, the model is vit_l16"]),
        ("r50_vit_b16", "vit_b16", ["holds r50_vit_b16, the model is vit_b16"]),
        ("vit_b16", "r50_vit_b16", ["holds vit_b16, the model is r50_vit_b16"]),
        ("r26_vit_b32", "r50_vit_b16", ["holds r26_vit_b32, the model is r50_vit_b16"]),
        ("vit_h14", "resnet50", ["holds vit_h14, the model is resnet50"]),
        ("vit_s32", "shallownet", ["holds vit_s32, the model is shallownet"]),
    ],
)
def test_a_file_of_another_variant_says_which(tmp_path, file, model, words):
    """The file holds zeros, and of its units and blocks only some: enough to tell it by."""
    params = _flat(abstract_variables(create_model(file, num_classes=3, image_size=224), 224))
    kept = re.compile(r"embedding/kernel|.*(LayerNorm_0/scale|encoderblock_0/.*|unit\d+/conv1/kernel)")
    small = {name: array for name, array in params.items() if kept.fullmatch(name)}
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        for name, array in small.items():
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(array.shape, ml_dtypes.bfloat16))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    made = create_model(model, num_classes=3, image_size=224)
    _refused(tmp_path / "w.npz", made, abstract_variables(made, 224), *words)


class Bomb:
    """What a pickle of it does when read: makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_pickled_is_ever_read(tmp_path):
    bomb, arrays = Bomb(tmp_path / "fired"), _published()
    np.savez(tmp_path / "member.npz", **arrays | {"cls": np.array([bomb], object)}, allow_pickle=True)
    np.save(tmp_path / "array.npy", np.array([bomb], object), allow_pickle=True)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(bomb))
    for name in ("member", "array", "raw"):
        _refused(tmp_path / f"{name}.npz", *_model(), "damaged", "pickle")
    assert not (tmp_path / "fired").exists()
    np.load(tmp_path / "array.npz", allow_pickle=True)
    assert (tmp_path / "fired").exists()  # the bomb works


def _damage(kind, whole, path):
    if kind == "readme":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("README.txt", "hello")
            archive.writestr("gn_root/scale", "hello")
        return ["'README.txt' is no array but bytes", "'gn_root/scale' is no array but bytes"]
    if kind == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif kind == "huge":
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    elif kind == "html":
        path.write_text("<html>sign in</html>")
    elif kind == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3, np.float32))
        return ["damaged or no .npz", "a single array"]
    else:
        path.write_bytes(whole[: int(len(whole) * kind)])
    return ["damaged or no .npz"]


@pytest.mark.parametrize("kind", [0, 0.1, 0.5, 0.99, 0.9999, "flipped", "huge", "html", "single", "readme"])
def test_a_damaged_archive_is_said_to_be_one(tmp_path, kind):
    _save(tmp_path / "w.npz", _published())
    words = _damage(kind, (tmp_path / "w.npz").read_bytes(), tmp_path / "w.npz")
    _refused(tmp_path / "w.npz", *_model(), *words)


def test_any_flipped_byte_is_refused_or_harmless(tmp_path):
    """Damage in a name, a header or a length: one line, or the right arrays."""
    expected = _published(classes=5)
    whole = bytearray(Path(_save(tmp_path / "w.npz", expected)).read_bytes())
    model, draw, refused = _model(), np.random.default_rng(3), 0
    for place in draw.integers(0, len(whole), 150):
        damaged = whole.copy()
        damaged[place] ^= int(draw.integers(1, 256))
        (tmp_path / "w.npz").write_bytes(damaged)
        try:
            loaded = _flat(load_pretrained(str(tmp_path / "w.npz"), *model, keep_head=True))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(loaded["embedding/kernel"], expected["embedding/kernel"])
    assert refused > 75


def _torchvision(bottleneck=False, classes=7, stages=(1, 1)):
    """Returns a random ResNet as torchvision stores it: OIHW, layerN.M, running statistics and counters."""
    draw = np.random.default_rng(4)
    state = {}

    def conv_bn(conv, bn, *oihw):
        state[f"{conv}.weight"] = draw.standard_normal(oihw, np.float32)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{bn}.{leaf}"] = draw.uniform(0.5, 1, oihw[0]).astype(np.float32)
        state[f"{bn}.num_batches_tracked"] = np.array(9, np.int64)

    conv_bn("conv1", "bn1", 64, 3, 7, 7)
    inputs = 64
    for stage, units in enumerate(stages):
        width = 64 * 2**stage
        outputs = 4 * width if bottleneck else width
        for unit in range(units):
            name = f"layer{stage + 1}.{unit}"
            plan = [(width, 1), (width, 3), (outputs, 1)] if bottleneck else [(width, 3), (width, 3)]
            before = inputs
            for place, (features, size) in enumerate(plan, 1):
                conv_bn(f"{name}.conv{place}", f"{name}.bn{place}", features, before, size, size)
                before = features
            if inputs != outputs:
                conv_bn(f"{name}.downsample.0", f"{name}.downsample.1", outputs, inputs, 1, 1)
            inputs = outputs
    state["fc.weight"] = draw.standard_normal((classes, inputs), np.float32)
    state["fc.bias"] = draw.standard_normal(classes, np.float32)
    return state


def _resnet(name="resnet18", classes=5, stages=(1, 1)):
    model = create_model(name, num_classes=classes, image_size=32, stage_sizes=stages)
    return model, abstract_variables(model, 32)


def _conv(images, oihw, stride, padding):
    """PyTorch's convolution by its definition, in float64; images (batch, H, W, channels)."""
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0))).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, oihw.shape[2:], (1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ocij->bhwo", windows, oihw)


def _forward(state, images):
    """A ResNet of two stages of one basic unit by its definition, from the state dict alone."""

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    x = np.maximum(norm(_conv(images, state["conv1.weight"], 2, 3), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    for name, stride in (("layer1.0", 1), ("layer2.0", 2)):
        y = np.maximum(norm(_conv(x, state[f"{name}.conv1.weight"], stride, 1), f"{name}.bn1"), 0)
        y = norm(_conv(y, state[f"{name}.conv2.weight"], 1, 1), f"{name}.bn2")
        if stride == 2:
            x = norm(_conv(x, state[f"{name}.downsample.0.weight"], 2, 0), f"{name}.downsample.1")
        x = np.maximum(x + y, 0)
    return x.mean((1, 2)) @ state["fc.weight"].T + state["fc.bias"]


def test_a_torchvision_resnet_gives_the_logits_of_its_definition(tmp_path, capsys):
    state = _torchvision(classes=5)
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(state, file)
    model, abstract = _resnet()
    variables = load_pretrained(str(file), model, abstract, keep_head=True)
    images = np.random.default_rng(5).standard_normal((2, 32, 32, 3), np.float32)
    expected = _forward(state, images)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    lines = capsys.readouterr().err.splitlines()
    assert sum(int(line.split()[1]) for line in lines[2:]) == len(state)
    assert any("*.num_batches_tracked" in line and "counter" in line for line in lines)
    assert not load_pretrained(str(file), model, abstract)["params"]["head"]["kernel"].any()


def test_a_torchvision_file_must_fit_too(tmp_path):
    file = tmp_path / "w.safetensors"
    state = _torchvision()
    safetensors.numpy.save_file(state | {"extra.weight": np.zeros((2, 3), np.float32)}, file)
    _refused(file, *_resnet(), "'extra.weight' (3, 2) has no place in the model")
    del state["bn1.running_var"]
    state["layer1.0.conv1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    safetensors.numpy.save_file(state, file)
    words = ["'layer1.0.conv1.weight' is (1, 1, 64, 64) in the file, (3, 3, 64, 64) in the model"]
    _refused(file, *_resnet(), *words, "'batch_stats/bn1/var' (64,) is not in the file")


def test_a_resnet_of_another_depth_says_which(tmp_path):
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(_torchvision(bottleneck=True, stages=(3, 4, 6, 3)), file)
    _refused(file, *_resnet("resnet18", stages=(2, 2, 2, 2)), "holds resnet50, the model is resnet18")


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
@pytest.mark.parametrize("suffix", ["safetensors", "msgpack"])
def test_damaged_files_of_other_kinds_are_said_to_be_so(tmp_path, content, suffix):
    (tmp_path / f"w.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"^\S+ (is damaged|is not a bundle).*$"):
        load_pretrained(str(tmp_path / f"w.{suffix}"), *_resnet())


def test_pth_without_torch_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"")
    _refused(tmp_path / "w.pth", *_resnet(), "pip install torch", ".safetensors")


def test_pth_is_read_as_safetensors_are_and_runs_no_code(tmp_path):
    torch = pytest.importorskip("torch")
    state = _torchvision()
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors")
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    tensors["fc.bias"] = torch.nn.Parameter(tensors["fc.bias"])
    torch.save(tensors, tmp_path / "w.pth")
    one, other = (load_pretrained(str(tmp_path / f"w.{suffix}"), *_resnet()) for suffix in ("safetensors", "pth"))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for wrong in (Bomb(tmp_path / "fired"), [1, 2], {"state_dict": {}, "epoch": 3}, torch.zeros(3), {"x": "y"}):
        torch.save(wrong, tmp_path / "w.pth")
        _refused(tmp_path / "w.pth", *_resnet(), "damaged or no .pth of names and tensors alone")
    torch.save({0: torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "w.pth")
    _refused(tmp_path / "w.pth", *_resnet(), "'0' (3,) has no place in the model")
    (tmp_path / "w.pth").write_bytes(b"garbage")
    _refused(tmp_path / "w.pth", *_resnet(), "damaged")
    assert not (tmp_path / "fired").exists()


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_our_own_classifier_is_kept_where_the_class_names_are_equal(trained, bundle_path, kind, capsys):
    path = str(trained[0] if kind == "run" else bundle_path)
    tree = flax.serialization.msgpack_restore(bundle_path.read_bytes())
    names, stored = tree["classes"], traverse_util.flatten_dict(tree["variables"], sep="/")
    for classes, kept in ((names, True), (names[::-1], False), (names[:3], False)):
        model = create_model("shallownet", num_classes=len(classes), image_size=32)
        abstract = abstract_variables(model, 32)
        loaded = load_pretrained(path, model, abstract, keep_head=not kept, class_names=classes)
        for name, array in traverse_util.flatten_dict(loaded, sep="/").items():
            if "head" in name and not kept:
                assert not array.any() and array.shape[-1] == len(classes)
            else:
                np.testing.assert_array_equal(array, stored[name], name)
        assert ("re-initialised" in capsys.readouterr().err) != kept


def test_our_own_files_must_fit_too(trained, bundle_path, tmp_path):
    model = create_model("shallownet", num_classes=20, image_size=64)
    _refused(bundle_path, model, abstract_variables(model, 64), "does not fit this ShallowNet", "Dense_0/kernel")
    _refused(bundle_path, *_model(), "holds shallownet, the model is")
    _refused(tmp_path, *_model(), "not a training run")
    for name in ("config.json", "classes.json"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    _refused(tmp_path, *_model(), "no checkpoint")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_paper_has_published_weights(name):
    if name == "shallownet":
        assert not family_of(name).weights
        with pytest.raises(ValueError, match="no published weights of 'shallownet'; allowed: resnet18"):
            dafre_128.get_config("shallownet,pretrained")
        return
    config = dafre_128.get_config(f"{name},pretrained")
    url, licence = sources.NAMED[config.pretrained]
    assert config.pretrained == family_of(name).weights[name] and url.startswith(("https://", "hf://")) and licence
    assert (config.model, config.keep_head, config.vit.pool, config.vit.pre_logits) == (name, False, "token", False)
    resnet = family_of(name).name == "resnet"
    assert config.trainable == ("head" if resnet else "all")
    assert tuple(config.mean) == ((0.485, 0.456, 0.406) if resnet else (0.5, 0.5, 0.5))
    assert not dafre_128.get_config(name).pretrained
    create_model(name, num_classes=3263, image_size=config.image_size)  # a size that the model takes
    assert config.image_size == (126 if name == "vit_h14" else 128)
    file = name if resnet else re.sub(r"(\d\d)$", r"_\1", name.removeprefix("vit_").replace("_vit_", "+vit-"))
    assert file in config.pretrained.lower()  # resnet18, ti_16, vit-b_16, r50+vit-b_16


def test_a_folder_in_a_bucket_is_a_workdir(monkeypatch):
    """The files of a run are read through etils; a stub stands for the bucket."""
    asked = []

    def read(workdir):
        asked.append(workdir)
        raise InputError("no run")

    monkeypatch.setattr("animesion_jax.pretrained.own.read_workdir", read)
    model, variables = _model()
    with pytest.raises(InputError, match="no run"):
        load_pretrained("gs://bucket/runs/b16", model, variables)
    assert asked == ["gs://bucket/runs/b16"]

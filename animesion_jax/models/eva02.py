"""EVA02 (Fang et al., 2023, arXiv:2303.11331): a ViT with rotary positions and SwiGLU.

Modules and parameters have timm's names.
"""

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from animesion_jax.models.dropout import StochasticDepth, depth_rates
from animesion_jax.models.family import HEAD, Family, Positions, Rollout, Shapes, Timm, count_units
from animesion_jax.models.kernels import add_positions, dot_product
from animesion_jax.models.patch_embedding import PatchEmbedding

# Epsilon of the layer norms, and base of the rotary frequencies.
EPSILON = 1e-6
TEMPERATURE = 10_000
# Standard deviation of new kernels and tables.
STD = 0.02

CLASS_TOKEN = "cls_token"
POSITIONS = "pos_embed"
QUERY = "params/blocks_0/attn/q_proj/kernel"
GATE = "params/blocks_0/mlp/fc1_g/kernel"


def make_rotation(grid: int, rotary_grid: int, width: int) -> np.ndarray:
    """Returns a (3, tokens, 1, width) float32 rotation of a head's features by the position of a patch.

    The pairs of features in the first half are rotated by the patch's row times a frequency, the others by its column.
    The class token is not rotated.

    Args:
      grid: patches along a side.
      rotary_grid: patches along a side in pre-training; the grid's coordinates are scaled to it.
      width: of a head.

    Returns:
      The factors by which `rotate` multiplies a feature, the next one and the previous one.
    """
    frequencies = float(TEMPERATURE) ** -(np.arange(width // 4) / (width // 4))
    along_side = np.arange(grid)[:, None] * (rotary_grid / grid) * frequencies
    angles = np.concatenate([np.repeat(along_side, grid, 0), np.tile(along_side, (grid, 1))], 1)
    angles = np.pad(angles, ((1, 0), (0, 0)))
    sines, zeros = np.sin(angles), np.zeros_like(angles)
    factors = [[np.cos(angles)] * 2, [-sines, zeros], [zeros, sines]]
    return np.stack([np.stack(pair, -1).reshape(-1, 1, width) for pair in factors]).astype(np.float32)


def rotate(x: jax.Array, rotation: np.ndarray) -> jax.Array:
    """Returns (batch, tokens, heads, width) `x`, each pair of neighbouring features rotated, computed in float32."""
    # Roll the features instead of adding an axis of pairs: TPUs pad an axis of 2 numbers to 128.
    itself, following, previous = rotation
    y = x.astype(jnp.float32)
    return (itself * y + following * jnp.roll(y, -1, -1) + previous * jnp.roll(y, 1, -1)).astype(x.dtype)


def _norm(dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, dtype=dtype, name=name)


def _dense(features: int, dtype: jnp.dtype, name: str, std: float = STD, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(features, use_bias, dtype=dtype, kernel_init=nn.initializers.normal(std), name=name)


class Attention(nn.Module):
    """Multi-head self-attention whose queries and keys are rotated by their positions."""

    num_heads: int
    output_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, rotation: np.ndarray) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of attention."""

        def project(name: str, use_bias: bool = True) -> jax.Array:
            projected = _dense(x.shape[-1], self.dtype, name, use_bias=use_bias)(x)
            return projected.reshape(*x.shape[:-1], self.num_heads, -1)

        query = rotate(project("q_proj"), rotation)
        key = rotate(project("k_proj", use_bias=False), rotation)
        attended = dot_product(query, key, project("v_proj"), self.dtype)
        return _dense(x.shape[-1], self.dtype, "proj", self.output_std)(attended.reshape(x.shape))


class SwiGlu(nn.Module):
    """SwiGLU (Shazeer, 2020, arXiv:2002.05202) with a layer norm before the last layer."""

    mlp_dim: int
    output_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of the block's MLP."""
        gate = nn.silu(_dense(self.mlp_dim, self.dtype, "fc1_g")(x))
        y = _norm(self.dtype, "norm")(gate * _dense(self.mlp_dim, self.dtype, "fc1_x")(x))
        return _dense(x.shape[-1], self.dtype, "fc2", self.output_std)(y)


class Block(nn.Module):
    """Self-attention and SwiGLU, each after a layer norm and with a residual connection under stochastic depth."""

    num_heads: int
    mlp_dim: int
    rate: float
    output_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, rotation: np.ndarray, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of one layer."""
        y = _norm(self.dtype, "norm1")(x)
        y = Attention(self.num_heads, self.output_std, self.dtype, name="attn")(y, rotation)
        x = x + StochasticDepth(self.rate)(y, train, positions)
        y = _norm(self.dtype, "norm2")(x)
        y = SwiGlu(self.mlp_dim, self.output_std, self.dtype, name="mlp")(y)
        return x + StochasticDepth(self.rate)(y, train, positions)


class Eva02(nn.Module):
    """Patches, class token, encoder layers, a layer norm of the patches' mean, linear classifier, which starts at zero.

    Attributes:
      num_classes: width of the classifier.
      hidden_size, num_layers, num_heads, mlp_dim: see `SIZES`.
      rotary_grid: see `make_rotation`.
      dropout_rate: rate of stochastic depth in the last layer; it grows linearly from 0 in the first.
      dtype: compute dtype; parameters, rotation, softmax and logits are float32.
      axis_name: unused, because there are no batch statistics; part of every model's signature.
    """

    patch_size: ClassVar[int] = 14
    image_multiple: ClassVar[int] = patch_size
    min_image_size: ClassVar[int] = 1

    num_classes: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    rotary_grid: int = 16
    dropout_rate: float = 0.1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        x = PatchEmbedding(self.hidden_size, self.patch_size, self.dtype, name="patch_embed")(images)
        normal = nn.initializers.normal(STD)
        token = self.param(CLASS_TOKEN, normal, (1, 1, self.hidden_size))
        x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.hidden_size)), x], 1)
        table = self.param(POSITIONS, normal, (1, *x.shape[1:]))
        x = add_positions(x, table.astype(x.dtype))
        grid = images.shape[1] // self.patch_size
        rotation = make_rotation(grid, self.rotary_grid, self.hidden_size // self.num_heads)
        for place, rate in enumerate(depth_rates(self.dropout_rate, self.num_layers)):
            # Start the outputs of later layers smaller, as timm and the authors' code do.
            std = STD / math.sqrt(2 * (place + 1))
            block = Block(self.num_heads, self.mlp_dim, rate, std, self.dtype, name=f"blocks_{place}")
            x = block(x, rotation, train, positions)
        x = _norm(jnp.float32, "fc_norm")(x[:, 1:].astype(jnp.float32).mean(1))
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name=HEAD)(x)


# Base and large; the MLP's width is 8 / 3 of the hidden size, rounded down.
SIZES = {
    "b": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "mlp_dim": 2048},
    "l": {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "mlp_dim": 2730},
}
MODELS = {f"eva02_{size}14": partial(Eva02, **SIZES[size]) for size in SIZES}


def _identify(shapes: Shapes) -> str | None:
    """Returns "eva02_b14" for its arrays, a description for those of another size, None for other models."""
    if not all(name in shapes and len(shapes[name].shape) == 2 for name in (QUERY, GATE)):
        return None
    found = {
        "hidden_size": shapes[QUERY].shape[0],
        "num_layers": sum(count_units(shapes, r"params/(blocks)_(\d+)/")),
        "mlp_dim": shapes[GATE].shape[1],
    }
    named = (name for name, model in MODELS.items() if model.keywords.items() >= found.items())
    return next(named, f"an EVA02 of {found}")


FAMILY = Family(
    name="eva02",
    models=MODELS,
    options={"rotary_grid": (16, 32)},
    dropout_rate=0.1,
    # CLIP's.
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    optimizer="adamw",
    has_batch_norm=False,
    explain=Rollout(
        layers=lambda model: [f"blocks_{place}/attn/dot_product" for place in range(model.num_layers)],
        num_prefix_tokens=lambda model: 1,
        sees_class_token=lambda model: False,
    ),
    weights={
        "eva02_b14": "timm/eva02_base_patch14_224.mim_in22k",
        "eva02_l14": "timm/eva02_large_patch14_224.mim_m38m",
    },
    timm=Timm(
        models={"eva02_b14": "eva02_base_patch14_224", "eva02_l14": "eva02_large_patch14_224"},
        names=(
            (f"(cls_token|pos_embed|patch_embed.proj|fc_norm|{HEAD})", "{0}"),
            (r"blocks_(\d+)/(norm[12]|attn.[qkv]_proj|attn.proj|mlp.norm|mlp.fc1_[gx]|mlp.fc2)", "blocks.{0}.{1}"),
            # The authors' files have these names.
            (r"blocks_(\d+)/attn/([qv])_proj/bias", "blocks.{0}.attn.{1}_bias"),
            (r"blocks_(\d+)/mlp/fc1_g", "blocks.{0}.mlp.w1"),
            (r"blocks_(\d+)/mlp/fc1_x", "blocks.{0}.mlp.w2"),
            (r"blocks_(\d+)/mlp/norm", "blocks.{0}.mlp.ffn_ln"),
            (r"blocks_(\d+)/mlp/fc2", "blocks.{0}.mlp.w3"),
        ),
        arguments=lambda description: {"ref_feat_shape": [description.get("rotary_grid", 16)] * 2},
        buffers=r"(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)",
    ),
    identify=_identify,
    positions=Positions(f"params/{POSITIONS}", f"params/{CLASS_TOKEN}"),
)

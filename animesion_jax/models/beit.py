"""BEiT (Bao et al., 2021, arXiv:2106.08254) and BEiT v2 (Peng et al., 2022, arXiv:2208.06366), and their record.

Modules and parameters have timm's names, with "/" for "." and "blocks_0" for "blocks.0".
"""

import math
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from animesion_jax.models.dropout import StochasticDepth, depth_rates
from animesion_jax.models.family import HEAD, Family, RelativePositions, Rollout, Shapes, Timm, count_units
from animesion_jax.models.kernels import dot_product, gelu
from animesion_jax.models.patch_embedding import PatchEmbedding

EPSILON = 1e-6
# Initial value of LayerScale in BEiT's base models.
GAMMA = 0.1
# Standard deviation of new kernels. Those that add to the residual stream are divided by sqrt(2 * layer).
STD = 0.02


def relative_position_index(grid: int) -> np.ndarray:
    """Returns the row of the bias table for each pair of tokens, as (tokens, tokens) integers by query and key.

    The class token is the first of the grid**2 + 1 tokens. Row (y + grid - 1) * (2 * grid - 1) + x + grid - 1 is that
    of a query y rows below and x columns right of its key. The last three rows are those of a class token that attends
    to a patch, of a patch that attends to the class token, and of the class token that attends to itself.
    """
    side = 2 * grid - 1
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    down, right = (each[:, None] - each + grid - 1 for each in (rows, columns))
    index = np.pad(down * side + right, ((1, 0), (1, 0)))
    index[0, 1:], index[1:, 0], index[0, 0] = side**2 + np.arange(3)
    return index


class Attention(nn.Module):
    """Self-attention with a bias by the relative position of two tokens; keys have no bias of their own."""

    num_heads: int
    output_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns (batch, tokens, hidden) outputs of a class token and a square grid of patches."""
        batch, tokens, width = x.shape
        grid = math.isqrt(tokens - 1)
        qkv = nn.Dense(
            3 * width, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.normal(STD), name="qkv"
        )(x)
        q_bias, v_bias = (self.param(name, nn.initializers.zeros, (width,)) for name in ("q_bias", "v_bias"))
        qkv = qkv + jnp.concatenate([q_bias, jnp.zeros(width), v_bias]).astype(qkv.dtype)
        qkv = qkv.reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        shape = ((2 * grid - 1) ** 2 + 3, self.num_heads)
        table = self.param("relative_position_bias_table", nn.initializers.zeros, shape)
        bias = table[relative_position_index(grid)].transpose(2, 0, 1)[None]
        x = dot_product(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], self.dtype, bias)
        x = x.reshape(batch, tokens, width)
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.normal(self.output_std), name="proj")(x)


class Mlp(nn.Module):
    """Dense, exact GELU, dense."""

    width: int
    output_std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns (batch, tokens, hidden) outputs."""
        hidden_size = x.shape[-1]
        x = nn.Dense(self.width, dtype=self.dtype, kernel_init=nn.initializers.normal(STD), name="fc1")(x)
        x = gelu(x, approximate=False, train=train)
        output_init = nn.initializers.normal(self.output_std)
        return nn.Dense(hidden_size, dtype=self.dtype, kernel_init=output_init, name="fc2")(x)


class Block(nn.Module):
    """Attention and MLP, each after a layer norm, scaled per channel (LayerScale) and added to its input."""

    num_heads: int
    mlp_dim: int
    output_std: float
    depth_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns (batch, tokens, hidden) tokens."""
        norm = partial(nn.LayerNorm, epsilon=EPSILON, dtype=self.dtype)
        start = nn.initializers.constant(GAMMA)
        gamma_1, gamma_2 = (self.param(name, start, (x.shape[-1],)) for name in ("gamma_1", "gamma_2"))
        y = Attention(self.num_heads, self.output_std, self.dtype, name="attn")(norm(name="norm1")(x))
        x = x + StochasticDepth(self.depth_rate)(gamma_1.astype(y.dtype) * y, train, positions)
        y = Mlp(self.mlp_dim, self.output_std, self.dtype, name="mlp")(norm(name="norm2")(x), train)
        return x + StochasticDepth(self.depth_rate)(gamma_2.astype(y.dtype) * y, train, positions)


class Beit(nn.Module):
    """Patches after a class token, blocks, a layer norm of the patches' mean, linear classifier.

    The classifier starts at zero.

    Attributes:
      num_classes: width of the classifier.
      patch_size: side of a patch in pixels.
      hidden_size, num_layers, num_heads, mlp_dim: widths and numbers.
      dropout_rate: of stochastic depth in the last block; in the others it grows linearly from 0.
      dtype: compute dtype; parameters, softmax and logits are float32.
      axis_name: unused, because there are no batch statistics; part of every model's signature.
    """

    min_image_size: ClassVar[int] = 1

    num_classes: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    dropout_rate: float = 0.1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @property
    def image_multiple(self) -> int:
        """Side of a token in pixels of the image; the image's side must be a multiple of it."""
        return self.patch_size

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        x = PatchEmbedding(self.hidden_size, self.patch_size, self.dtype, name="patch_embed")(images)
        cls = self.param("cls_token", nn.initializers.normal(STD), (1, 1, self.hidden_size))
        x = jnp.concatenate([jnp.broadcast_to(cls.astype(x.dtype), (x.shape[0], 1, self.hidden_size)), x], 1)
        for layer, rate in enumerate(depth_rates(self.dropout_rate, self.num_layers)):
            std = STD / math.sqrt(2 * (layer + 1))
            block = Block(self.num_heads, self.mlp_dim, std, rate, self.dtype, name=f"blocks_{layer}")
            x = block(x, train, positions)
        x = x[:, 1:].astype(jnp.float32).mean(1)
        x = nn.LayerNorm(epsilon=EPSILON, dtype=jnp.float32, name="fc_norm")(x)
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name=HEAD)(x)


MODELS = {
    "beit_b16": partial(Beit, patch_size=16, hidden_size=768, num_layers=12, num_heads=12, mlp_dim=3072),
}

EMBEDDING = "params/patch_embed/proj/kernel"
TABLE = "params/blocks_0/attn/relative_position_bias_table"
HIDDEN = "params/blocks_0/mlp/fc1/kernel"


def _identify(shapes: Shapes) -> str | None:
    """Returns "beit_b16" for its arrays, a description for those of another size, None for other models."""
    dimensions = {EMBEDDING: 4, TABLE: 2, HIDDEN: 2}
    if not all(name in shapes and len(shapes[name].shape) == count for name, count in dimensions.items()):
        return None
    found = {
        "patch_size": shapes[EMBEDDING].shape[0],
        "hidden_size": shapes[EMBEDDING].shape[-1],
        "num_layers": sum(count_units(shapes, r"params/(blocks)_(\d+)/")),
        "num_heads": shapes[TABLE].shape[1],
        "mlp_dim": shapes[HIDDEN].shape[1],
    }
    known = (name for name, model in MODELS.items() if model.keywords == found)
    return next(known, f"a BEiT of {found}")


FAMILY = Family(
    name="beit",
    models=MODELS,
    options={},
    # The rate of stochastic depth in the papers' fine-tuning.
    dropout_rate=0.1,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    optimizer="adamw",
    has_batch_norm=False,
    explain=Rollout(
        layers=lambda model: [f"blocks_{layer}/attn/dot_product" for layer in range(model.num_layers)],
        num_prefix_tokens=lambda model: 1,
        sees_class_token=lambda model: False,
    ),
    weights={"beit_b16": "timm/beit_base_patch16_224.in22k_ft_in22k"},
    timm=Timm(
        models={"beit_b16": "beit_base_patch16_224"},
        names=(
            (r"blocks_(\d+)/(.+)", "blocks.{0}.{1}"),
            ("(cls_token|patch_embed.proj|fc_norm)", "{0}"),
            (HEAD, "head"),
        ),
        arguments=lambda description: {},
        # Older files have this buffer.
        buffers=r"blocks\.\d+\.attn\.relative_position_index",
    ),
    identify=_identify,
    positions=RelativePositions(r"params/blocks_\d+/attn/relative_position_bias_table"),
)

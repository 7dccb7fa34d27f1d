"""Vision Transformer (Dosovitskiy et al., 2020, arXiv:2010.11929).

Modules and parameters have the names of Google's linen code, so that its checkpoints map onto the variables one to one.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.dropout import Dropout
from animesion_jax.models.family import HEAD
from animesion_jax.models.hybrid import apply_stem, stem_stride
from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import add_positions, attend, convolve, gelu

# Input of the classifier: the class token, or the mean of the patches.
POOLS = ("token", "mean")

# The tanh approximation of Google's code, and the exact GELU, which is PyTorch's default.
GELUS = ("tanh", "erf")

# Of the patch embedding: Google's, and that of the paper's runs from scratch.
EMBEDDING_INITIALIZERS = {
    "lecun": lambda inputs: {"kernel_init": nn.initializers.lecun_normal()},
    "pytorch": pytorch_default,
}

# Published sizes: hidden size, layers, heads, MLP width (arXiv:2010.11929 table 1; Ti and S from DeiT).
SIZES = {
    "ti": {"hidden_size": 192, "num_layers": 12, "num_heads": 3, "mlp_dim": 768},
    "s": {"hidden_size": 384, "num_layers": 12, "num_heads": 6, "mlp_dim": 1536},
    "b": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "mlp_dim": 3072},
    "l": {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "mlp_dim": 4096},
    "h": {"hidden_size": 1280, "num_layers": 32, "num_heads": 16, "mlp_dim": 5120},
}


class DropoutRates(NamedTuple):
    """Dropout rates at the places of Google's and the paper's code."""

    positions: float = 0.0
    attention_weights: float = 0.0
    attention_output: float = 0.0
    mlp_hidden: float = 0.0
    mlp_output: float = 0.0


# Places with dropout in Google's code and in the code behind the DAF:re paper's tables.
DROPOUT_PLACES = {
    "google": ("positions", "attention_output", "mlp_hidden", "mlp_output"),
    "animesion": ("attention_weights", "attention_output", "mlp_output"),
}


class PositionEmbedding(nn.Module):
    """Adds a learned (1, tokens, hidden) float32 table to the tokens."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns `tokens` (batch, tokens, hidden) plus the table, in the dtype of the tokens."""
        table = self.param("pos_embedding", nn.initializers.normal(0.02), (1, *tokens.shape[1:]))
        return add_positions(tokens, table.astype(tokens.dtype))


class MlpBlock(nn.Module):
    """Dense, GELU, dropout, dense, dropout."""

    mlp_dim: int
    gelu: str
    dropout_rates: DropoutRates
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of the block's MLP."""
        dense = {
            "dtype": self.dtype,
            "kernel_init": nn.initializers.xavier_uniform(),
            "bias_init": nn.initializers.normal(1e-6),
        }
        hidden_size = x.shape[-1]
        x = nn.Dense(self.mlp_dim, **dense)(x)
        x = gelu(x, self.gelu == "tanh", train)
        x = Dropout(self.dropout_rates.mlp_hidden)(x, train, positions)
        x = nn.Dense(hidden_size, **dense)(x)
        return Dropout(self.dropout_rates.mlp_output)(x, train, positions)


class EncoderBlock(nn.Module):
    """Self-attention and MLP, each after a layer norm and with a residual connection."""

    num_heads: int
    mlp_dim: int
    gelu: str
    dropout_rates: DropoutRates
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of one encoder layer."""
        drop_weights = None
        if train and self.dropout_rates.attention_weights > 0:
            dropout = Dropout(self.dropout_rates.attention_weights, name="attention_weights_dropout")
            drop_weights = partial(dropout, train=train, positions=positions)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
        y = attend(y, self.num_heads, self.dtype, drop_weights)
        x = x + Dropout(self.dropout_rates.attention_output)(y, train, positions)
        y = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)(x)
        return x + MlpBlock(self.mlp_dim, self.gelu, self.dropout_rates, self.dtype)(y, train, positions)


class Encoder(nn.Module):
    """Position embedding, dropout, the encoder layers and the final layer norm."""

    num_layers: int
    num_heads: int
    mlp_dim: int
    gelu: str
    dropout_rates: DropoutRates
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the normalised (batch, tokens, hidden) tokens."""
        x = PositionEmbedding(name="posembed_input")(x)
        x = Dropout(self.dropout_rates.positions)(x, train, positions)
        layer = partial(EncoderBlock, self.num_heads, self.mlp_dim, self.gelu, self.dropout_rates, self.dtype)
        for place in range(self.num_layers):
            x = layer(name=f"encoderblock_{place}")(x, train, positions)
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="encoder_norm")(x)


class VisionTransformer(nn.Module):
    """Patches, class token, transformer encoder, linear classifier; a hybrid with `stem_sizes`.

    The classifier starts at zero.

    Attributes:
      num_classes: width of the classifier.
      patch_size: side of a patch in pixels, or in pixels of the stem's output for a hybrid.
      hidden_size, num_layers, num_heads, mlp_dim: see `SIZES`.
      stem_sizes: units per stage of a ResNet before the patches; empty for none.
      pool: a member of `POOLS`. "token" classifies by a class token before the patches, "mean" by the mean of the
        patches, without a class token.
      pre_logits: whether a tanh layer of the hidden size precedes the classifier, as in ImageNet-21k training.
      gelu: a member of `GELUS`.
      embedding_initializer: a key of `EMBEDDING_INITIALIZERS`.
      dropout_rate: dropout at each of the `dropout_places`.
      dropout_places: a key of `DROPOUT_PLACES`.
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
    stem_sizes: Sequence[int] = ()
    pool: str = "token"
    pre_logits: bool = False
    gelu: str = "tanh"
    embedding_initializer: str = "lecun"
    dropout_rate: float = 0.1
    dropout_places: str = "google"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @property
    def image_multiple(self) -> int:
        """Side of a token in pixels of the image; the image's side must be a multiple of it."""
        return self.patch_size * stem_stride(self.stem_sizes)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        patch = (self.patch_size, self.patch_size)
        x = images.astype(self.dtype)
        if self.stem_sizes:
            x = apply_stem(x, self.stem_sizes, self.dtype)
        init = EMBEDDING_INITIALIZERS[self.embedding_initializer](self.patch_size**2 * x.shape[-1])
        x = nn.Conv(
            self.hidden_size, patch, strides=patch, padding="VALID", dtype=self.dtype, name="embedding",
            conv_general_dilated=convolve, **init,
        )(x)  # fmt: skip
        x = x.reshape(x.shape[0], -1, self.hidden_size)
        if self.pool == "token":
            cls = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_size))
            x = jnp.concatenate([jnp.broadcast_to(cls.astype(x.dtype), (x.shape[0], 1, self.hidden_size)), x], 1)
        rates = DropoutRates(**dict.fromkeys(DROPOUT_PLACES[self.dropout_places], self.dropout_rate))
        x = Encoder(self.num_layers, self.num_heads, self.mlp_dim, self.gelu, rates, self.dtype, name="Transformer")(
            x, train, positions
        )
        x = x[:, 0].astype(jnp.float32) if self.pool == "token" else x.astype(jnp.float32).mean(1)
        if self.pre_logits:
            x = jnp.tanh(nn.Dense(self.hidden_size, dtype=jnp.float32, name="pre_logits")(x))
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name=HEAD)(x)

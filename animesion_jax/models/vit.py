"""Vision Transformer (Dosovitskiy et al., 2020, arXiv:2010.11929).

Modules and parameters have the names of Google's linen code, so that its checkpoints map onto the variables one to one.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.errors import InputError
from animesion_jax.models.encoder import DropoutRates, Encoder
from animesion_jax.models.family import HEAD
from animesion_jax.models.hybrid import apply_stem, stem_stride
from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import convolve

# Input of the classifier: the class token, or the mean of the patches.
POOLS = ("token", "mean")
# The combinations of pool, class_token and fc_norm that published models have.
POOLINGS = (("token", True, False), ("mean", False, False), ("mean", False, True), ("mean", True, True))

# Epsilons of the layer norms: Google's and timm's, PyTorch's default, and that of transformers.
EPSILONS = (1e-6, 1e-5, 1e-12)

# The tanh approximation of Google's code, and the exact GELU, which is PyTorch's default.
GELUS = ("tanh", "erf")

# Of the patch embedding: Google's, and that of the paper's runs from scratch.
EMBEDDING_INITIALIZERS = {
    "lecun": lambda inputs: {"kernel_init": nn.initializers.lecun_normal()},
    "pytorch": pytorch_default,
}

# Published sizes: hidden size, layers, heads, MLP width (arXiv:2010.11929 table 1; Ti and S from DeiT; So400m from
# arXiv:2305.13035).
SIZES = {
    "ti": {"hidden_size": 192, "num_layers": 12, "num_heads": 3, "mlp_dim": 768},
    "s": {"hidden_size": 384, "num_layers": 12, "num_heads": 6, "mlp_dim": 1536},
    "b": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "mlp_dim": 3072},
    "l": {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "mlp_dim": 4096},
    "h": {"hidden_size": 1280, "num_layers": 32, "num_heads": 16, "mlp_dim": 5120},
    "so400m": {"hidden_size": 1152, "num_layers": 27, "num_heads": 16, "mlp_dim": 4304},
}

# Places with dropout in Google's code and in the code behind the DAF:re paper's tables.
DROPOUT_PLACES = {
    "google": ("positions", "attention_output", "mlp_hidden", "mlp_output"),
    "animesion": ("attention_weights", "attention_output", "mlp_output"),
}


class VisionTransformer(nn.Module):
    """Patches, class token, transformer encoder, linear classifier; a hybrid with `stem_sizes`.

    The classifier starts at zero.

    Attributes:
      num_classes: width of the classifier.
      patch_size: side of a patch in pixels, or in pixels of the stem's output for a hybrid.
      hidden_size, num_layers, num_heads, mlp_dim: see `SIZES`.
      stem_sizes: units per stage of a ResNet before the patches; empty for none.
      pool: a member of `POOLS`. "token" classifies by a class token before the patches, "mean" by the mean of the
        patches.
      class_token: whether there is a class token; None for one with pool "token" only.
      fc_norm: whether the last layer norm follows the mean of the patches, instead of preceding it.
      registers: number of further tokens that only the encoder sees.
      epsilon: a member of `EPSILONS`, of the layer norms.
      pre_logits: whether a tanh layer of the hidden size precedes the classifier, as in ImageNet-21k training.
      gelu: a member of `GELUS`.
      embedding_initializer: a key of `EMBEDDING_INITIALIZERS`.
      dropout_rate: dropout at each of the `dropout_places`.
      dropout_places: a key of `DROPOUT_PLACES`.
      dtype: compute dtype; parameters, softmax and logits are float32.
      axis_name: unused, because there are no batch statistics; part of every model's signature.

    Raises:
      InputError: pool, class_token and fc_norm are none of `POOLINGS`.
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
    class_token: bool | None = None
    fc_norm: bool = False
    registers: int = 0
    epsilon: float = 1e-6
    pre_logits: bool = False
    gelu: str = "tanh"
    embedding_initializer: str = "lecun"
    dropout_rate: float = 0.1
    dropout_places: str = "google"
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if (chosen := (self.pool, self.has_class_token, self.fc_norm)) not in POOLINGS:
            named = "pool={!r}, class_token={}, fc_norm={}".format
            allowed = "; ".join(named(*each) for each in POOLINGS)
            raise InputError(f"a ViT cannot have {named(*chosen)}; allowed: {allowed}; set --config.vit.NAME=VALUE")
        super().__post_init__()

    @property
    def has_class_token(self) -> bool:
        """Whether the first token is the class token."""
        return self.pool == "token" if self.class_token is None else self.class_token

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before those of the patches."""
        return self.has_class_token + self.registers

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
        if self.has_class_token:
            cls = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_size))
            x = jnp.concatenate([jnp.broadcast_to(cls.astype(x.dtype), (x.shape[0], 1, self.hidden_size)), x], 1)
        rates = DropoutRates(**dict.fromkeys(DROPOUT_PLACES[self.dropout_places], self.dropout_rate))
        x = Encoder(
            self.num_layers, self.num_heads, self.mlp_dim, self.gelu, self.epsilon, self.has_class_token,
            self.registers, not self.fc_norm, rates, self.dtype, name="Transformer",
        )(x, train, positions)  # fmt: skip
        x = x.astype(jnp.float32)
        x = x[:, 0] if self.pool == "token" else x[:, self.num_prefix_tokens :].mean(1)
        if self.fc_norm:
            x = nn.LayerNorm(epsilon=self.epsilon, dtype=jnp.float32, name="fc_norm")(x)
        if self.pre_logits:
            x = jnp.tanh(nn.Dense(self.hidden_size, dtype=jnp.float32, name="pre_logits")(x))
        return nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=nn.initializers.zeros, name=HEAD)(x)

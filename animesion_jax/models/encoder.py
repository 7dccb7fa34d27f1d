"""The transformer encoder of `vit.py`, with the names of Google's linen code."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.dropout import Dropout
from animesion_jax.models.kernels import add_positions, attend, gelu


class DropoutRates(NamedTuple):
    """Dropout rates at the places of Google's and the paper's code."""

    positions: float = 0.0
    attention_weights: float = 0.0
    attention_output: float = 0.0
    mlp_hidden: float = 0.0
    mlp_output: float = 0.0


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
    epsilon: float
    dropout_rates: DropoutRates
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the (batch, tokens, hidden) output of one encoder layer."""
        drop_weights = None
        if train and self.dropout_rates.attention_weights > 0:
            dropout = Dropout(self.dropout_rates.attention_weights, name="attention_weights_dropout")
            drop_weights = partial(dropout, train=train, positions=positions)
        y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)(x)
        y = attend(y, self.num_heads, self.dtype, drop_weights)
        x = x + Dropout(self.dropout_rates.attention_output)(y, train, positions)
        y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)(x)
        return x + MlpBlock(self.mlp_dim, self.gelu, self.dropout_rates, self.dtype)(y, train, positions)


class Encoder(nn.Module):
    """Position embedding, registers, dropout, the encoder layers and the final layer norm.

    Registers (Darcet et al., 2023, arXiv:2309.16588) follow the class token, and have no positions.
    """

    num_layers: int
    num_heads: int
    mlp_dim: int
    gelu: str
    epsilon: float
    class_token: bool
    registers: int
    final_norm: bool
    dropout_rates: DropoutRates
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None) -> jax.Array:
        """Returns the (batch, tokens + registers, hidden) tokens, normalised with `final_norm`."""
        x = PositionEmbedding(name="posembed_input")(x)
        if self.registers:
            # The standard deviation is DINOv2's.
            table = self.param("registers", nn.initializers.normal(1e-6), (1, self.registers, x.shape[-1]))
            registers = jnp.broadcast_to(table.astype(x.dtype), (x.shape[0], *table.shape[1:]))
            first = int(self.class_token)
            x = jnp.concatenate([x[:, :first], registers, x[:, first:]], 1)
        x = Dropout(self.dropout_rates.positions)(x, train, positions)
        layer = partial(
            EncoderBlock, self.num_heads, self.mlp_dim, self.gelu, self.epsilon, self.dropout_rates, self.dtype
        )
        for place in range(self.num_layers):
            x = layer(name=f"encoderblock_{place}")(x, train, positions)
        if not self.final_norm:
            return x
        return nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="encoder_norm")(x)

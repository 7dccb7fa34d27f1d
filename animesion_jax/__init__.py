"""animesion_jax: anime character recognition in JAX."""

__version__ = "0.1.0"

"""The experiments, one file each. In Python they are `animesion_jax.configs`."""

"""Resampling of tables of relative position biases from one grid of patches to another."""

import numpy as np


def resample_relative_positions(source: str, table: np.ndarray, rows: int) -> np.ndarray:
    """Returns a (rows, heads) table from a table of another number of rows."""
    raise NotImplementedError

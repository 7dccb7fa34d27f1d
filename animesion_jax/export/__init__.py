"""A run to a calibrated bundle, and a bundle to other formats."""

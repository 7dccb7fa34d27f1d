"""A run's folder: config, checkpoints, rows of metrics and curves."""

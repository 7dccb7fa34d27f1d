"""The names in a workdir."""

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
ORIGIN_FILE = "origin.json"
RESULTS_FILE = "results.json"
ROWS_FILE = "metrics.jsonl"
NONFINITE_FILE = "nonfinite_batch.json"
# Beside the workdirs of the runs of a sweep.
SWEEP_FILE = "sweep.json"
# The two items of a checkpoint.
WEIGHTS, REST = "weights", "rest"

"""The commands, a module each: `run(arguments)` does its work and returns the exit status.

They import what they need only when they run: `--help` waits for neither JAX nor TensorFlow.
"""

COMMANDS = (
    "train", "sweep", "evaluate", "export", "calibrate", "predict", "explain", "embed", "enroll", "serve", "figures",
    "report",
)  # fmt: skip

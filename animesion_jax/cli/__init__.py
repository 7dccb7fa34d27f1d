"""The commands, one module each: `main(argv)` runs the command and returns the exit status.

They import their libraries when they run, so that `--help` loads neither JAX nor TensorFlow.
"""

COMMANDS = (
    "train", "sweep", "evaluate", "export", "calibrate", "find", "predict", "explain", "embed", "enroll", "serve",
    "figures", "report", "configs", "build",
)  # fmt: skip

"""TFDS splits as uint8 batches. Only this package and the builders import TensorFlow.

TensorFlow only reads data here. Importing this package hides the accelerators from it, so that it reserves neither GPU
memory nor the TPU.
"""

import tensorflow as tf

for kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], kind)

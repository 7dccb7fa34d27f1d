"""TFDS splits as uint8 batches: the only room, beside the builders, that imports TensorFlow.

TensorFlow only reads data here. Importing this package hides the accelerators from it, so that it takes neither the
GPU's memory nor the TPU.
"""

import tensorflow as tf

for kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], kind)

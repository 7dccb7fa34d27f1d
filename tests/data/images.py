"""Images of examples and batches as bytes, to compare and count."""

from animesion_jax.data.decode import decoded


def encoded_images(records):
    """Returns the stored bytes of records."""
    return [record["image"] for record in records.as_numpy_iterator()]


def all_encoded_images(examples):
    """Returns the stored bytes of examples."""
    return encoded_images(examples.records(0, examples.num_examples))


def decoded_images(examples, size, fit="squash"):
    """Returns the pixels of examples at a size."""
    records = decoded(examples.records(0, examples.num_examples), size, fit)
    return [record["image"].tobytes() for record in records.as_numpy_iterator()]


def batch_images(batches):
    """Returns the pixels of all unmasked images of batches."""
    return [image.tobytes() for batch in batches for image in batch["image"][batch["mask"] > 0]]

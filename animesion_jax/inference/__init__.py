"""A bundle and images to names, embeddings, maps and enrolment; without TensorFlow or training."""

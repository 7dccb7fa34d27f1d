"""From a bundle and images to names, embeddings, heat maps and enrolled characters; needs no TensorFlow."""

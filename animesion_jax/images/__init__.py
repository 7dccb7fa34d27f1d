"""Image files: which of a folder's files are images, and safe reading of their pixels."""

from animesion_jax.images.content import Content, is_content
from animesion_jax.images.finding import EXPLAINED, find_images, is_image_name
from animesion_jax.images.reading import FORMATS, read_image, to_image, to_rgb
from animesion_jax.images.streams import without_metadata

__all__ = [
    "EXPLAINED",
    "FORMATS",
    "Content",
    "find_images",
    "is_content",
    "is_image_name",
    "read_image",
    "to_image",
    "to_rgb",
    "without_metadata",
]

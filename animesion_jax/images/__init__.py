"""Finds image files in folders, and reads their pixels safely."""

from animesion_jax.images.content import Content, is_content
from animesion_jax.images.finding import (
    EXPLAINED,
    Level,
    describe,
    find_images,
    is_image_name,
    is_system_name,
    read_level,
    walk,
)
from animesion_jax.images.prefetch import prefetch
from animesion_jax.images.reading import formats, read_image, to_image, to_rgb
from animesion_jax.images.streams import without_metadata

__all__ = [
    "EXPLAINED",
    "Content",
    "Level",
    "describe",
    "find_images",
    "formats",
    "is_content",
    "is_image_name",
    "is_system_name",
    "prefetch",
    "read_image",
    "read_level",
    "to_image",
    "to_rgb",
    "walk",
    "without_metadata",
]

"""A data set made from a folder of images per character."""

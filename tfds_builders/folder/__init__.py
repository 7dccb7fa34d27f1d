"""A data set of any folder that holds a folder of pictures per character."""

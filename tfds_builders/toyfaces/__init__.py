"""Twenty anime characters drawn by our own code: a data set that needs no download."""

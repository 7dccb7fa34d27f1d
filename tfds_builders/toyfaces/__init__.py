"""Twenty drawn anime characters: a data set without a download."""

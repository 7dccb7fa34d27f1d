"""moeimouto: anime faces by character, as on Kaggle."""

"""moeimouto: anime faces by character, from Kaggle."""

"""The loop, its stages, one update, losses, augmentation and evaluation: the only room with optax."""

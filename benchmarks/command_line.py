"""What the benchmarks' command lines have in common."""

import argparse

DTYPES = ("float32", "bfloat16")


def positive(text: str) -> int:
    """Returns the whole number above 0 that a flag was given; argparse names the flag where it is none."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}; allowed: 1 or more")
    return number

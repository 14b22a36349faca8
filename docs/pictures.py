"""Draw the picture of the README from a trained model: `python docs/pictures.py` after `make demo`.

The rows are samples number 0 to 7 of each class, one class a column; nothing is picked by hand.
"""

import argparse
from pathlib import Path

import torch

from ornstein.core.adapter import DomainAdapter
from ornstein.domains.images import ImageDiffusion, save_grid

ROWS = 8
PICTURE = Path(__file__).parent / "images" / "digits.png"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="runs/demo/model", help="a model folder (default: %(default)s)")
    model = DomainAdapter.from_pretrained(options.parse_args().model)
    if not isinstance(model, ImageDiffusion) or not model.class_names:
        raise SystemExit("expected a model of pictures with classes, such as the one that make demo trains")
    columns = len(model.class_names)
    samples = model.sample(columns * ROWS, label=torch.arange(columns).repeat(ROWS), seed=0)
    save_grid(1 - samples, PICTURE, columns, scale=4)


if __name__ == "__main__":
    main()

"""Contact sheets of the drawn world: python3 sheet.py OUT.png [SEED]."""
import sys

import numpy as np
from PIL import Image

from world import ACTOR, BEHIND, COLOUR, GROUND, SKY, draw_attributes, possible, render


def grid(frames, columns):
    h, w, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    sheet = np.zeros((rows * (h + 2), columns * (w + 2), 3), np.uint8)
    for i, f in enumerate(frames):
        y, x = i // columns * (h + 2), i % columns * (w + 2)
        sheet[y:y + h, x:x + w] = f
    return sheet


if __name__ == "__main__":
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    frames = [render(draw_attributes(rng), int(rng.integers(1 << 40)))[0] for _ in range(64)]
    Image.fromarray(grid(frames, 8)).save(sys.argv[1])

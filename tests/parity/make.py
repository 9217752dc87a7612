"""Random models of every kind and what the reference makes of them: python3 make.py --out FOLDER [shapes]."""
import argparse
import shutil
from pathlib import Path

import diffusers
import torch
import transformers

import autoencoder
import clip
import lora
import models
import text
import trajectory
import transformer
from common import Shapes


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seed", type=int, default=Shapes.seed)
    p.add_argument("--width", type=int, default=Shapes.dim, help="of the transformer")
    p.add_argument("--heads", type=int, default=Shapes.heads)
    p.add_argument("--layers", type=int, default=Shapes.layers)
    p.add_argument("--frames", type=int, default=Shapes.frames, help="pixels, 4n+1")
    p.add_argument("--size", default=f"{Shapes.width}x{Shapes.height}", help="pixels, multiples of 16")
    p.add_argument("--only", default="", help="a model; all of them where it is something else")
    p.add_argument("--golden", action="store_true", help="the small cases that are committed")
    a = p.parse_args()
    if a.golden:
        return a, Shapes(dim=40, text_dim=24, clip_dim=16, vae_dim=2)
    width, height = map(int, a.size.split("x"))
    if a.frames % 4 != 1 or width % 16 or height % 16 or a.width % (4 * a.heads):
        p.error("frames must be 4n+1, sizes multiples of 16, and the width a multiple of 4 for each head")
    return a, Shapes(seed=a.seed, dim=a.width, heads=a.heads, layers=a.layers, frames=a.frames, width=width, height=height)


def main():
    a, shapes = arguments()
    torch.set_num_threads(1)  # of models this small threads only wait for each other: on a busy machine, for minutes
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    shutil.rmtree(a.out, ignore_errors=True)
    names = ["umt5", "clip", *(kind.name for kind in models.KINDS)]
    wanted = lambda name: a.only == name or a.only not in names
    if wanted("umt5"):
        text.make(a.out, shapes)
    if wanted("clip"):
        clip.make(a.out, shapes)
    for kind in models.KINDS:
        if not wanted(kind.name):
            continue
        pipelines = models.make(a.out, shapes, kind)
        usual = pipelines[0] or pipelines[1]
        transformer.make(a.out, shapes, kind, usual)
        lora.make(a.out, shapes, kind, usual)
        trajectory.make(a.out, shapes, kind, *pipelines)
        if a.golden and not kind.image and not kind.prefix:
            shutil.rmtree(a.out / kind.name / "vae")  # nothing of it is run
        if kind.name in ("t2v", "ti2v") and not a.golden:
            autoencoder.make(a.out, models.shapes_of(kind, shapes), kind.name, usual.vae, 16 if kind.prefix else 8)


if __name__ == "__main__":
    main()

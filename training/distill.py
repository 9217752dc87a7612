"""Distils a transformer to four steps without guidance: python3 distill.py keyframe FOLDER --teacher BASE ...

The student starts as the teacher and learns to go from one of the four noise levels to the next in one
Euler step, where the teacher goes in several steps with guidance. Rerun the same command to go on.
"""
import argparse
from pathlib import Path

import torch

import loop
import train_text
import transformer as dit
from checkpoint import load_ema
from export import SIGMAS
from precision import autocast
from train_dit import Source, rough_condition, text_rows


@torch.no_grad()
def teach(teacher, x, extra, sigma, target, text, bias, empty, guidance, substeps, forward):
    """From x at sigma to target, per sample, by Euler steps of the teacher with guidance."""
    n = len(x)
    both = torch.cat((text, empty[0].expand(n, -1, -1))), torch.cat((bias, empty[1].expand(n, -1)))
    for k in range(substeps):
        s = sigma + (target - sigma) * k / substeps
        y = x if extra is None else torch.cat((x, extra), 1)
        with autocast(x.device):
            v, u = forward(teacher, torch.cat((y, y)), 1000 * torch.cat((s, s)), *both).float().chunk(2)
        x = x + ((target - sigma) / substeps).view(-1, 1, 1, 1, 1) * (u + guidance * (v - u))
    return x


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    loop.options(p)
    p.add_argument("--teacher", type=Path, required=True)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--substeps", type=int, default=4)
    a = p.parse_args()
    a.batch = a.batch or (32 if a.kind == "keyframe" else 8)
    a.lr = a.lr or 5e-4
    torch.manual_seed(a.seed)
    source = Source(a, dropout=0.0)
    teacher = load_ema(a.teacher, dit.build(source.channels)).requires_grad_(False).to(source.device)
    model = dit.build(source.channels).to(source.device)
    model.load_state_dict(teacher.state_dict())
    empty = text_rows(source.encoder, *(t.to(source.device) for t in train_text.padded(source.pieces, [""])))
    levels, forward = torch.tensor(SIGMAS), dit.compiled(source.device)

    def loss_of(generator, *batch):
        z, actor, given, text, bias = source.ready(*batch)
        i = torch.randint(len(SIGMAS) - 1, (len(z),), generator=generator)
        sigma, target = levels[i].to(z.device), levels[i + 1].to(z.device)
        at = sigma.view(-1, 1, 1, 1, 1)
        x = (1 - at) * z + at * torch.randn(z.shape, generator=generator).to(z.device)
        extra = rough_condition(given, z.shape[2], generator) if a.kind == "window" else None
        # Pad the empty text to the width of the others, masked.
        width = text.shape[1] - empty[0].shape[1]
        none = torch.nn.functional.pad(empty[0], (0, 0, 0, width)), torch.nn.functional.pad(empty[1], (0, width), value=-1e9)
        end = teach(teacher, x, extra, sigma, target, text, bias, none, a.guidance, a.substeps, forward)
        aim = (x - end) / (sigma - target).view(-1, 1, 1, 1, 1)
        with autocast(z.device):
            v = forward(model, x if extra is None else torch.cat((x, extra), 1), 1000 * sigma, text, bias)
        return loop.weighted(v - aim, actor, a.focus)

    loop.run(a, model, 0.999, source.batches, loss_of, warmup=50, fall=0.5, every=25)


if __name__ == "__main__":
    main()

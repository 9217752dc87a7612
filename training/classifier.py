"""The evaluator's eye: a small network that tells from frames what is in them, and where the actor is.

python3 classifier.py trains it on drawn frames (some minutes on two cores) and writes
evaluator.safetensors beside this file; its own accuracy on drawn clips that it has not seen is
printed, and kept in the file's metadata. It is trained on blurred, noisy and compressed-looking
frames too, so that it reads what a decoder and an encoder leave of a picture.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from precision import autocast
from world import ATTRIBUTES, FRAMES, HEIGHT, WIDTH, draw_attributes, render

WEIGHTS = Path(__file__).with_name("evaluator.safetensors")
SEEN = [k for k in ATTRIBUTES if k != "motion"]  # what one frame shows
OF_ACTOR = ("actor", "colour")
# Pixels a frame, at 160 pixels of width, from which on an actor counts as moving.
MOVES_ACROSS, MOVES_UP = 0.5, 0.32


def block(a, b, stride):
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class Eye(nn.Module):
    """Frames [N,3,96,160] in -1..1 to logits per attribute and the actor's place [N,2] in 0..1."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(block(3, 24, 2), block(24, 32, 1), block(32, 64, 2), block(64, 64, 1))
        self.coarse = nn.Sequential(block(64, 96, 2), block(96, 96, 1), block(96, 96, 1))
        self.heat = nn.ModuleList((nn.Conv2d(64, 1, 3, padding=1), nn.Conv2d(96, 1, 1)))
        self.heads = nn.ModuleDict({k: nn.Linear(192, len(ATTRIBUTES[k])) for k in SEEN})

    def forward(self, x):
        fine = self.fine(x)
        f = self.coarse(fine)
        # Where the actor is: the coarse features know what it is, the fine ones where, to some two pixels.
        heat = self.heat[0](fine) + F.interpolate(self.heat[1](f), scale_factor=2, mode="bilinear")
        n, _, h, w = heat.shape
        weight = heat.float().flatten(1).softmax(1)
        rows = (torch.arange(h * w, device=x.device) // w + 0.5) / h
        columns = (torch.arange(h * w, device=x.device) % w + 0.5) / w
        place = torch.stack([weight @ columns, weight @ rows], 1)
        weight = 4 * F.avg_pool2d(weight.view(n, 1, h, w), 2).flatten(1)
        f = f.flatten(2)
        actor = torch.einsum("ncp,np->nc", f, weight.to(f.dtype))
        whole = torch.cat([f.mean(2), f.amax(2)], 1)
        seen = {k: self.heads[k](torch.cat([actor, f.mean(2)], 1) if k in OF_ACTOR else whole) for k in SEEN}
        return seen, place


def worsen(x, rng):
    """What encoders and small decoders do to a picture, to some of the frames."""
    u = rng.random()
    if u < 0.35:
        f = float(rng.uniform(0.45, 0.9))
        x = F.interpolate(F.interpolate(x, scale_factor=f, mode="bilinear", antialias=True), size=x.shape[2:], mode="bilinear")
    elif u < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)
    x = x * float(rng.uniform(0.92, 1.08)) + float(rng.uniform(-0.05, 0.05))
    return (x + float(rng.uniform(0, 0.05)) * torch.randn_like(x)).clamp(-1, 1)


def as_input(frames):
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x if x.shape[2:] == (HEIGHT, WIDTH) else F.interpolate(x, (HEIGHT, WIDTH), mode="bilinear", antialias=True)


def batch(rng, count):
    frames, labels, places = [], [], []
    for _ in range(count):
        scene = draw_attributes(rng, held=rng.random() < 0.2)  # the eye may know every combination
        frame, where = render(scene, int(rng.integers(1 << 40)), int(rng.integers(600)), 1, anywhere=rng.random() < 0.3, where=True)
        frames.append(frame[0])
        labels.append([ATTRIBUTES[k].index(scene[k]) for k in SEEN])
        places.append(where[0, :2] / (WIDTH, HEIGHT))
    return as_input(np.stack(frames)), torch.tensor(labels), torch.tensor(np.stack(places), dtype=torch.float32)


def train(steps, size=48, rate=3e-3, seed=3):
    torch.manual_seed(seed)
    rng, eye = np.random.default_rng(seed), Eye()
    opt = torch.optim.AdamW(eye.parameters(), rate, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.OneCycleLR(opt, rate, steps)
    started = time.time()
    for step in range(steps):
        x, labels, places = batch(rng, size)
        inside = ((places > 0.02) & (places < 0.98)).all(1)
        with autocast(torch.device("cpu")):
            seen, place = eye(worsen(x, rng))
        loss = sum(F.cross_entropy(seen[k].float()[inside] if k in OF_ACTOR else seen[k].float(), labels[:, i][inside] if k in OF_ACTOR else labels[:, i]) for i, k in enumerate(SEEN))
        loss = loss + 40 * F.smooth_l1_loss(place[inside], places[inside], beta=0.02)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        plan.step()
        if step % 100 == 99:
            print(f"step {step + 1} of {steps}, loss {loss.item():.3f}, {time.time() - started:.0f} s", flush=True)
    return eye.eval()


def moves(place):
    """The motion's name from the actor's places [F,2] in 0..1. The median slope over all pairs of frames that are 8 to
    16 apart: a place is known to some three pixels, and leaving on one side and coming in on the other is in few pairs."""
    far = range(min(8, len(place) - 1), min(16, len(place) - 1) + 1)
    steps = np.concatenate([(place[k:] - place[:-k]) / k for k in far]) * (WIDTH, HEIGHT)
    dx, dy = np.median(steps, 0)
    if abs(dx) > MOVES_ACROSS and abs(dx) >= abs(dy):
        return "right" if dx > 0 else "left"
    if abs(dy) > MOVES_UP:
        return "sinks" if dy > 0 else "rises"
    return "still"


@torch.no_grad()
def look(eye, frames):
    """What a clip [F,H,W,3] u8 shows: a name for every attribute; frames vote with their logits."""
    totals, places = None, []
    for first in range(0, len(frames), 32):
        seen, place = eye(as_input(frames[first:first + 32]))
        # Log-probabilities, and each frame at most 4: one odd frame does not outvote the rest.
        votes = {k: v.float().log_softmax(1).clamp_min(-4).sum(0) for k, v in seen.items()}
        totals = votes if totals is None else {k: totals[k] + votes[k] for k in SEEN}
        places.append(place.float().numpy())
    found = {k: ATTRIBUTES[k][int(totals[k].argmax())] for k in SEEN}
    if len(frames) > 1:
        found["motion"] = moves(np.concatenate(places))
    return found


def accuracy(eye, clips=400, seed=77):
    """Share of unseen drawn clips read right, per attribute."""
    rng, right = np.random.default_rng(seed), dict.fromkeys(ATTRIBUTES, 0)
    for _ in range(clips):
        scene = draw_attributes(rng, held=rng.random() < 0.5)
        found = look(eye, render(scene, int(rng.integers(1 << 40)), 0, FRAMES))
        for k in right:
            right[k] += found[k] == scene[k]
    return {k: right[k] / clips for k in right}


def load():
    eye = Eye()
    with safe_open(WEIGHTS, "pt") as f:
        eye.load_state_dict({k: f.get_tensor(k).float() if f.get_tensor(k).is_floating_point() else f.get_tensor(k) for k in f.keys()})
        return eye.eval(), f.metadata()


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--steps", type=int, default=3000, help="0: measure the weights that are there again")
    a = p.parse_args()
    eye = train(a.steps) if a.steps else load()[0]
    right = accuracy(eye)
    print("accuracy on 400 unseen drawn clips:", {k: f"{v:.2%}" for k, v in right.items()})
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in eye.state_dict().items()}, WEIGHTS,
              {k: f"{v:.4f}" for k, v in right.items()})


if __name__ == "__main__":
    main()

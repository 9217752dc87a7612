"""What windows are given after many of the model's own, and what should follow:
python3 rollouts.py LATENTS --vae V --text T --window W --count N.

A drawn scene's first frames begin a chain of windows, each from the decoded tail of the one before, as in a long video.
Of every second window its given latents are kept, beside the latents of the clip that the world draws for that time: what
is to be drawn from them. So a window learns to take back what windows lose, which no made-up wear of drawn frames showed
it: in rain and snowfall the ground's hue goes over many windows. The boxes of actors are drawn anew into each tail (half of
them only half), or they would be elsewhere than in the world after some windows; so what is near them goes astray less
than it does at run time. Most scenes have rain or snowfall.

train_dit.py takes what lies here beside the clips by itself. Rerun with a larger N to add to what is there, with what the
window has become; after a kill the chains that were not at their end are other ones.
"""
import argparse
from pathlib import Path

import numpy as np
import torch

import latents as store
import train_text
import transformer as dit
import vae as wan
from checkpoint import load_ema
from export import SIGMAS
from feed import feed
from precision import autocast
from train_dit import condition, text_rows, texts_for
from world import ATTRIBUTES, FRAMES, HEIGHT, OVERLAP, WIDTH, draw_attributes, render

STEP = FRAMES - OVERLAP


def scene(rng):
    """Seven of eight have rain or snowfall; of scenes as they are drawn, one in two."""
    wanted = rng.random() < 0.75
    while True:
        attributes = draw_attributes(rng)
        if not wanted or attributes["weather"] != "clear":
            return attributes


class Chains:
    """What the world draws for `windows` windows of `size` scenes: attributes, frames, the actor's boxes."""

    def __init__(self, first, size, windows):
        self.first, self.size, self.windows = first, size, windows

    def __call__(self, number):
        rng = np.random.default_rng((33, self.first, number))
        scenes = [scene(rng) for _ in range(self.size)]
        frames, where = zip(*(render(s, int(rng.integers(1 << 40)), int(rng.integers(64)), (self.windows - 1) * STEP + FRAMES, anywhere=True, where=True)
                              for s in scenes))
        attributes = np.array([[ATTRIBUTES[k].index(s[k]) for k in ATTRIBUTES] for s in scenes], np.uint8)
        return attributes, np.stack(frames), np.stack(where), rng.integers(1 << 40)


def actor_mask(where):
    """Boxes [B,T,4] to [B,T,H,W,1] in 0..1, soft at the edge."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    box = where[..., None, None]
    inside = np.minimum(box[:, :, 2] + 6 - abs(x - box[:, :, 0]), box[:, :, 3] + 6 - abs(y - box[:, :, 1]))
    return np.clip(inside / 4, 0, 1)[..., None].astype(np.float32)


class Roller:
    def __init__(self, a):
        self.vae, self.window = wan.load(a.vae), load_ema(a.window, dit.build(36))
        self.mean, self.std = wan.statistics(a.vae)
        self.encoder, self.pieces = train_text.load(a.text)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device, self.forward = device, dit.compiled(device)
        for m in (self.vae, self.window, self.encoder):
            m.to(device)

    def next(self, given, attributes, rng):
        """Raw latents of two given latent frames to the frames of the window that begins with them, u8 [B,T,H,W,3]."""
        text, bias = text_rows(self.encoder, *(t.to(self.device) for t in train_text.padded(self.pieces, texts_for(rng, attributes, "window", 0.0))))
        z = torch.zeros(len(given), 16, store.LATENT_FRAMES, *given.shape[3:])
        z[:, :, :given.shape[2]] = (given - self.mean) / self.std
        extra = condition(z, torch.full((len(z),), given.shape[2])).to(self.device)
        x = torch.from_numpy(rng.standard_normal(z.shape, np.float32)).to(self.device)
        with autocast(self.device):
            for s, after in zip(SIGMAS, SIGMAS[1:]):
                v = self.forward(self.window, torch.cat((x, extra), 1), torch.full((len(x),), 1000.0 * s, device=self.device), text, bias)
                x = x + (after - s) * v.float()
            y = wan.decode(self.vae, x * self.std.to(self.device) + self.mean.to(self.device))
        return ((y.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()

    @torch.inference_mode()
    def roll(self, attributes, frames, where, seed):
        """Rows for the store: latents of what is to be drawn, attributes, the actor's place, latents of the given frames."""
        rng = np.random.default_rng(seed)
        share = rng.choice((0.5, 1.0), (len(frames), 1, 1, 1, 1)).astype(np.float32)
        tail = frames[:, :OVERLAP]
        for k in range((frames.shape[1] - FRAMES) // STEP + 1):
            begin = k * STEP
            given = store.encode(self.vae, tail)
            if k % 2:
                clip, boxes = frames[:, begin:begin + FRAMES], where[:, begin:begin + FRAMES]
                actor = np.stack([store.near(b) for b in boxes])
                yield store.pack(store.encode(self.vae, clip)), attributes, actor, store.pack(given)
            if begin + FRAMES < frames.shape[1]:
                here = slice(begin + STEP, begin + FRAMES)
                mask = share * actor_mask(where[:, here])
                tail = (self.next(given, attributes, rng)[:, STEP:] * (1 - mask) + frames[:, here] * mask).round().astype(np.uint8)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--window", type=Path, required=True)
    p.add_argument("--count", type=int, required=True)
    p.add_argument("--windows", type=int, default=40, help="how many a chain has, 2 at least")
    p.add_argument("--batch", type=int, default=8, help="chains at a time; each takes 25 MB of memory, in up to 6 batches")
    a = p.parse_args()
    if a.windows < 2:
        p.error("--windows: 2 at least")
    a.folder.mkdir(parents=True, exist_ok=True)
    roller, chains = Roller(a), Chains(store.held(a.folder, "rollouts"), a.batch, a.windows)

    def batches():
        for chain in feed(chains, workers=2, ahead=1):
            yield from roller.roll(*chain)

    store.append(a.folder, "rollouts", a.count, batches())


if __name__ == "__main__":
    main()

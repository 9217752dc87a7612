"""Draws scenes and keeps their latents: python3 latents.py FOLDER --vae V --keyframes N --clips M.

Rerun with larger numbers to add to what is there. Keyframes are one latent frame with the actor
wholly visible; clips are 17 frames (five latent frames) anywhere on the actor's way. Raw latents,
bf16 kept as 16-bit integers, in memory-mapped files; beside them the attributes, so captions are
worded anew every time a sample is used, and where the actor is, so training can look there more. Items are independent of each other: the same item number is
the same scene whoever draws it.
"""
import argparse
import contextlib
import json
import time
from pathlib import Path

import numpy as np
import torch

import vae as wan
from feed import feed
from precision import autocast
from threads import Threads
from world import ATTRIBUTES, FRAMES, HEIGHT, OVERLAP, WIDTH, draw_attributes, render

LATENT_FRAMES = 1 + (FRAMES - 1) // 4
KINDS = {"keyframes": (1, 1), "clips": (FRAMES, LATENT_FRAMES), "rollouts": (FRAMES, LATENT_FRAMES)}  # frames, latent frames
GIVEN = 1 + (OVERLAP - 1) // 4  # latent frames that rollouts.py keeps of what was given to a window


def item(kind, index):
    rng = np.random.default_rng((31 if kind == "keyframes" else 32, index))
    scene, seed = draw_attributes(rng), int(rng.integers(1 << 40))
    clips = kind == "clips"
    # Two clips of five start as a keyframe does; the others are anywhere.
    start = int(rng.integers(64)) if clips and rng.random() < 0.6 else 0
    frames, where = render(scene, seed, start, KINDS[kind][0], anywhere=start > 0, where=True)
    return scene, frames, near(where)


class Items:
    """A batch of items: attributes, frames, the actor's place."""

    def __init__(self, kind, first, size):
        self.kind, self.first, self.size = kind, first, size

    def __call__(self, step):
        begin = self.first + step * self.size
        scenes, frames, actors = zip(*(item(self.kind, i) for i in range(begin, begin + self.size)))
        attributes = np.array([[ATTRIBUTES[k].index(s[k]) for k in ATTRIBUTES] for s in scenes], np.uint8)
        return attributes, np.stack(frames), np.stack(actors)


def near(where):
    """Boxes per frame (x, y, half width, half height in pixels) -> uint8 [T, h, w], 1 for each latent
    pixel that the actor touches in one of its frames."""
    boxes = np.concatenate((where[:1].repeat(4, 0), where[1:])).reshape(-1, 4, 4, 1, 1)
    y, x = np.mgrid[0:HEIGHT // 8, 0:WIDTH // 8] * 8 + 4
    inside = (abs(x - boxes[:, :, 0]) < boxes[:, :, 2] + 6) & (abs(y - boxes[:, :, 1]) < boxes[:, :, 3] + 6)
    return inside.any(1).astype(np.uint8)


def pack(z):
    return z.to(torch.bfloat16).view(torch.int16).numpy()


def unpack(a):
    return torch.from_numpy(np.ascontiguousarray(a)).view(torch.bfloat16).float()


def shapes(kind):
    """What is kept of an item: file, type, shape. Raw latents, the attributes, where the actor is; of a window in a chain
    of the model's own also the latents that were given to it."""
    frame = (HEIGHT // 8, WIDTH // 8)
    grid = (KINDS[kind][1], *frame)
    kept = ((f"{kind}.latents.bin", np.int16, (16, *grid)), (f"{kind}.attributes.bin", np.uint8, (len(ATTRIBUTES),)),
            (f"{kind}.actor.bin", np.uint8, grid))
    return kept + ((f"{kind}.given.bin", np.int16, (16, GIVEN, *frame)),) if kind == "rollouts" else kept


def size(dtype, shape):
    return np.dtype(dtype).itemsize * int(np.prod(shape))


def held(folder, kind):
    """How many items a folder holds."""
    return min((folder / name).stat().st_size // size(dtype, shape) if (folder / name).exists() else 0 for name, dtype, shape in shapes(kind))


def open_store(folder, kind):
    """Latents [N,16,T,h,w] int16, attributes [N,7] uint8, the actor's place [N,T,h,w] uint8 and, of rollouts, given
    latents [N,16,2,h,w] int16, memory-mapped."""
    n = held(folder, kind)
    return tuple(np.memmap(folder / name, dtype, "r", shape=(n, *shape)) for name, dtype, shape in shapes(kind))


def scene_of(row):
    return {k: v[row[i]] for i, (k, v) in enumerate(ATTRIBUTES.items())}


@torch.inference_mode()
def encode(model, frames):
    """uint8 [B,T,H,W,3] to raw mean latents."""
    x = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    device = next(model.parameters()).device
    with autocast(device):
        return wan.moments(model, x.to(device))[0].float().cpu()


def append(folder, kind, count, batches):
    """Adds rows until a folder has `count`; batches: of arrays in the order of shapes(), a generator that is not begun where
    nothing is to be added."""
    have = begun = held(folder, kind)
    started, threads, said = time.time(), Threads(), time.time()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(folder / name, "ab")) for name, _, _ in shapes(kind)]
        for f, (_, dtype, shape) in zip(files, shapes(kind)):
            f.truncate(have * size(dtype, shape))  # a kill may have left part of a batch
        while have < count:
            threads.adapt()
            batch = next(batches)
            for f, rows in zip(files, batch):
                f.write(rows.tobytes())
                f.flush()
            have += len(batch[0])
            if time.time() - said > 15 or have >= count:
                said = time.time()
                print(kind, have, f"{(said - started) / (have - begun) * 1e3:.1f} ms each", flush=True)


def encoded(folder, model, kind, batch):
    for attributes, frames, actors in feed(Items(kind, held(folder, kind), batch)):
        yield pack(encode(model, frames)), attributes, actors


def measure(model, folder, count=240):
    """Mean and standard deviation of each latent channel over clips."""
    z = np.concatenate([encode(model, np.stack([item("clips", i)[1] for i in range(k, k + 4)])).numpy() for k in range(0, count // 4, 4)])
    stats = dict(latents_mean=[round(float(v), 4) for v in z.mean((0, 2, 3, 4))], latents_std=[round(float(v), 4) for v in z.std((0, 2, 3, 4))])
    (folder / "latents.json").write_text(json.dumps(stats))
    print(stats, flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--keyframes", type=int, default=0)
    p.add_argument("--clips", type=int, default=0)
    a = p.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = wan.load(a.vae).to(device)
    a.folder.mkdir(parents=True, exist_ok=True)
    if not (a.vae / "latents.json").exists():
        measure(model, a.vae)
    append(a.folder, "keyframes", a.keyframes, encoded(a.folder, model, "keyframes", 16))
    append(a.folder, "clips", a.clips, encoded(a.folder, model, "clips", 2))


if __name__ == "__main__":
    main()

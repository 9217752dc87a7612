"""Draws scenes and keeps their latents: python3 latents.py FOLDER --vae V --keyframes N --clips M.

Rerun with larger numbers to add to what is there. Keyframes are one latent frame with the actor
wholly visible; clips are 17 frames (five latent frames) anywhere on the actor's way. Raw latents,
bf16 kept as 16-bit integers, in memory-mapped files; attributes beside them, so captions are
worded anew every time a sample is used. Items are independent of each other: the same item number is
the same scene whoever draws it.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import vae as wan
from threads import Threads
from world import ATTRIBUTES, FRAMES, HEIGHT, WIDTH, draw_attributes, render

KINDS = {"keyframes": (1, 1), "clips": (FRAMES, 1 + (FRAMES - 1) // 4)}  # frames, latent frames


def item(kind, index):
    rng = np.random.default_rng((31 if kind == "keyframes" else 32, index))
    scene, seed = draw_attributes(rng), int(rng.integers(1 << 40))
    clips = kind == "clips"
    # Two clips of five start as a keyframe does; the others are anywhere.
    start = int(rng.integers(64)) if clips and rng.random() < 0.6 else 0
    return scene, render(scene, seed, start, KINDS[kind][0], anywhere=start > 0)


def pack(z):
    return z.to(torch.bfloat16).view(torch.int16).numpy()


def unpack(a):
    return torch.from_numpy(np.ascontiguousarray(a)).view(torch.bfloat16).float()


def paths(folder, kind):
    return folder / f"{kind}.latents.bin", folder / f"{kind}.attributes.bin"


def held(folder, kind):
    """How many items a folder holds."""
    sizes = [p.stat().st_size if p.exists() else 0 for p in paths(folder, kind)]
    return min(sizes[0] // (2 * 16 * KINDS[kind][1] * (HEIGHT // 8) * (WIDTH // 8)), sizes[1] // len(ATTRIBUTES))


def open_store(folder, kind):
    """Latents [N, 16, T, h, w] int16 and attributes [N, 7] uint8, memory-mapped."""
    z, a = paths(folder, kind)
    shape = (16, KINDS[kind][1], HEIGHT // 8, WIDTH // 8)
    n = held(folder, kind)
    return np.memmap(z, np.int16, "r", shape=(n, *shape)), np.memmap(a, np.uint8, "r", shape=(n, len(ATTRIBUTES)))


def scene_of(row):
    return {k: v[row[i]] for i, (k, v) in enumerate(ATTRIBUTES.items())}


@torch.inference_mode()
def encode(model, frames):
    """uint8 [B,T,H,W,3] to raw mean latents."""
    x = torch.from_numpy(np.stack(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16):
        return wan.moments(model, x.to(device))[0].float().cpu()


def fill(folder, model, kind, count, batch, device):
    z_path, a_path = paths(folder, kind)
    have = held(folder, kind)
    per_item = 2 * 16 * KINDS[kind][1] * (HEIGHT // 8) * (WIDTH // 8)
    started, begun, threads = time.time(), have, Threads()
    with open(z_path, "ab") as zf, open(a_path, "ab") as af:
        zf.truncate(have * per_item)  # a kill may have left part of a batch
        af.truncate(have * len(ATTRIBUTES))
        while have < count:
            threads.adapt()
            items = [item(kind, i) for i in range(have, min(count, have + batch))]
            z = encode(model, [f for _, f in items])
            zf.write(pack(z).tobytes())
            af.write(np.array([[ATTRIBUTES[k].index(s[k]) for k in ATTRIBUTES] for s, _ in items], np.uint8).tobytes())
            zf.flush()
            af.flush()
            have += len(items)
            if have % (batch * 50) < len(items):
                print(kind, have, f"{(time.time() - started) / (have - begun) * 1e3:.1f} ms each", flush=True)


def measure(model, folder, count=240):
    """Mean and standard deviation of each latent channel over clips."""
    z = np.concatenate([encode(model, [item("clips", i)[1] for i in range(k, k + 4)]).numpy() for k in range(0, count // 4, 4)])
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
    fill(a.folder, model, "keyframes", a.keyframes, 16, device)
    fill(a.folder, model, "clips", a.clips, 2, device)


if __name__ == "__main__":
    main()

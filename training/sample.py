"""Makes videos from an exported model folder with PyTorch, as the C program does with its own runtime.

python3 sample.py MODEL --prompts FILE.jsonl --out FOLDER [--seconds 2]
FILE has a line of JSON a video: {"name": ..., "scene": ..., "motion": ...}. Needs the program ffmpeg.
"""
import argparse
import json
import subprocess
from pathlib import Path

import torch

import reference_tensors as reference
import transformer as dit
import vae as wan
from precision import autocast
from world import FRAMES, OVERLAP


class Sampler:
    def __init__(self, folder, steps=None, guidance=None):
        m = self.m = reference.load(folder)
        schedule = dict(m["schedule"])
        if steps:
            schedule.pop("sigmas", None)
            schedule["num_inference_steps"] = steps
        self.sigmas = reference.sigmas_of(schedule)
        self.guidance = schedule["guidance_scale"] if guidance is None else guidance
        config = m["vae"].config
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))

    def text(self, texts):
        ids, rows, whole = zip(*[reference.text_rows(self.m, t) for t in texts])
        return dit.trim(torch.stack(whole), torch.tensor([len(r) for r in rows]), self.m["length"])

    @torch.inference_mode()
    def solve(self, model, noise, texts, extra=None):
        x, (text, bias) = noise, self.text(texts)
        none = self.text([""] * len(texts))
        for s, after in zip(self.sigmas, self.sigmas[1:]):
            t = torch.full((len(x),), 1000.0 * s)
            y = x if extra is None else torch.cat((x, extra), 1)
            with autocast(torch.device("cpu")):
                v = dit.forward(model, y, t, text, bias)
                if self.guidance != 1:
                    u = dit.forward(model, y, t, *none)
                    v = u + self.guidance * (v - u)
            x = x + (after - s) * v.float()
        return x

    @torch.inference_mode()
    def decode(self, z):
        with autocast(torch.device("cpu")):
            return wan.decode(self.m["vae"], z * self.std + self.mean).float().clamp(-1, 1)

    @torch.inference_mode()
    def encode(self, x):
        with autocast(torch.device("cpu")):
            return (wan.moments(self.m["vae"], x)[0].float() - self.mean) / self.std

    def keyframe(self, scenes, seed=0):
        g = torch.Generator().manual_seed(seed)
        return self.solve(self.m["keyframe"], torch.randn(len(scenes), 16, 1, 12, 20, generator=g), scenes)

    def window(self, tail, texts, seed=0):
        """tail: the last pixel frames, [B,3,1 or 5,H,W] -> latents of a window that begins with them."""
        g = torch.Generator().manual_seed(seed + 1)
        given = self.encode(tail)
        n = given.shape[2]
        extra = torch.zeros(len(tail), 20, 5, *given.shape[3:])
        extra[:, :4, :n], extra[:, 4:, :n] = 1, given
        return self.solve(self.m["window"], torch.randn(len(tail), 16, 5, *given.shape[3:], generator=g), texts, extra)

    def video(self, scenes, motions, windows, overlap=OVERLAP, seed=0):
        """Pixels [B,3,T,H,W] of a keyframe and the windows that follow it."""
        texts = [s + ". " + m for s, m in zip(scenes, motions)]
        x = self.decode(self.keyframe(scenes, seed))
        for k in range(windows):
            n = 1 if k == 0 else overlap
            fresh = self.decode(self.window(x[:, :, -n:], texts, seed + k))
            x = torch.cat((x, fresh[:, :, n:]), 2)
        return x


def to_bytes(x):
    return ((x + 1) * 127.5).round().to(torch.uint8)


def write_video(path, x, fps=16):
    """x [3,T,H,W] in [-1,1]."""
    frames = to_bytes(x).permute(1, 2, 3, 0).contiguous()
    _, h, w, _ = frames.shape
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", str(fps), "-i", "-",
                    "-c:v", "libx264", "-crf", "14", "-pix_fmt", "yuv420p", str(path)], input=frames.numpy().tobytes(), check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("--prompts", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--steps", type=int)
    p.add_argument("--guidance", type=float)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    sampler = Sampler(a.model, a.steps, a.guidance)
    a.out.mkdir(parents=True, exist_ok=True)
    prompts = [json.loads(line) for line in a.prompts.read_text().splitlines() if line.strip()]
    count = max(1, round(a.seconds * 16))
    windows = 1 + -(-max(0, count - FRAMES) // (FRAMES - OVERLAP))
    for i in range(0, len(prompts), a.batch):
        part = prompts[i:i + a.batch]
        x = sampler.video([q["scene"] for q in part], [q["motion"] for q in part], windows, seed=a.seed + i)
        for q, clip in zip(part, x):
            write_video(a.out / f"{q['name']}.mp4", clip[:, :count])


if __name__ == "__main__":
    main()

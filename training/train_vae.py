"""Trains the VAE on crops of drawn clips: python3 train_vae.py FOLDER --steps N.

Rerun the same command to go on after a kill. --decoder-only keeps the encoder, and so every latent
that was made with it, as it is.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch

import vae as wan
from checkpoint import Ema, log_line, resume, save
from feed import feed
from optim import Muon
from threads import Threads
from world import HEIGHT, WIDTH, draw_attributes, render

KINDS = ((9, 64, 80), (9, 64, 80), (9, 64, 80), (17, 64, 64), (1, 96, 160))  # frames, height, width
BATCH = {9: 2, 17: 1, 1: 4}


def crop(rng, t, h, w):
    scene = draw_attributes(rng)
    clip, where = render(scene, int(rng.integers(1 << 40)), int(rng.integers(64)), t, anywhere=rng.random() < 0.7, where=True)
    y, x = rng.integers(HEIGHT - h + 1), rng.integers(WIDTH - w + 1)
    if rng.random() < 0.6:  # around the actor
        cx, cy = where[t // 2, :2] + rng.uniform(-0.3, 0.3, 2) * (w, h)
        y, x = int(np.clip(cy - h / 2, 0, HEIGHT - h)), int(np.clip(cx - w / 2, 0, WIDTH - w))
    clip = clip[:, y:y + h, x:x + w]
    return clip[:, :, ::-1] if rng.random() < 0.5 else clip


class Batches:
    """A step's crops [B,3,T,H,W] u8: a function of the step's number."""

    def __init__(self, seed, times):
        self.seed, self.times = seed, times

    def __call__(self, step):
        rng = np.random.default_rng((self.seed, step))
        t, h, w = KINDS[rng.integers(len(KINDS))]
        return torch.from_numpy(np.stack([crop(rng, t, h, w) for _ in range(self.times * BATCH[t])])).permute(0, 4, 1, 2, 3)


@torch.no_grad()
def psnr(model, device, count=12):
    """Full frames of unseen clips, per clip, mean dB: clear, rain, snowfall."""
    result, rng = {}, np.random.default_rng(99)
    for weather in ("clear", "rain", "snowfall"):
        total = 0.0
        for _ in range(count):
            scene = dict(draw_attributes(rng), weather=weather)
            x = torch.from_numpy(render(scene, int(rng.integers(1 << 40)), 0, 17)).permute(3, 0, 1, 2)[None].to(device)
            x = x.float() / 127.5 - 1
            with torch.autocast(device.type, torch.bfloat16):
                y = wan.decode(model, wan.moments(model, x)[0])
            total += -10 * torch.log10(((y.float().clamp(-1, 1) - x) / 2).square().mean()).item()
        result[weather] = total / count
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path)
    p.add_argument("--steps", type=int, default=1 << 30, help="the learning rate falls to zero here")
    p.add_argument("--minutes", type=float, default=1e9, help="or after so much training time in all, if that comes before")
    p.add_argument("--times", type=int, default=1, help="so many times the batch that suits two CPU cores")
    p.add_argument("--lr", type=float, default=5e-3)
    p.add_argument("--adamw", action="store_true")
    p.add_argument("--decoder-only", action="store_true")
    p.add_argument("--log", type=Path)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = wan.build().to(device)
    if a.decoder_only:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    trained = [q for q in model.parameters() if q.requires_grad]
    opt = Muon(trained, a.lr, decay=0.0, **(dict(matrix=lambda q: False) if a.adamw else {}))
    ema = Ema(model, 0.999)
    step, seconds = resume(a.folder, model, opt, ema)
    started, saved, sums, threads = time.time(), time.time(), [], Threads()
    for x in feed(Batches(a.seed, a.times), step):
        threads.adapt()
        spent = seconds + time.time() - started
        part = min(1.0, max(step / a.steps, spent / (60 * a.minutes)))
        lr = a.lr * min(1, (step + 1) / 100) * min(1, 2 * (1 - part))
        for group in opt.param_groups:
            group["lr"] = lr
        x = (x.to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16):
            mean, logvar = wan.moments(model, x)
            mean, logvar = mean.float(), logvar.float().clamp(-12, 4)
            y = wan.decode(model, mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)).float()
        mse, l1 = (y - x).square().mean(), (y - x).abs().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        (l1 + 2 * mse + 2e-6 * kl).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        sums.append(torch.stack((mse, l1, kl, mean.std())).detach())
        if step % 50 == 0:
            m = torch.stack(sums).mean(0).tolist()
            sums = []
            line = dict(step=step, seconds=round(spent), lr=f"{lr:.2e}",
                        psnr=f"{-10 * np.log10(m[0] / 4):.2f}", l1=f"{m[1]:.5f}", kl=f"{m[2]:.1f}", std=f"{m[3]:.3f}")
            print(line, flush=True)
            if a.log:
                log_line(a.log, line)
        if time.time() - saved > 180 or part >= 1:
            save(a.folder, model, opt, ema, step, spent)
            saved = time.time()
        if part >= 1:
            break
    ema.load_into(model)
    print(psnr(model, device))


if __name__ == "__main__":
    main()

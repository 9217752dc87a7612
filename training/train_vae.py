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
from precision import autocast
from threads import Threads
from world import HEIGHT, WIDTH, draw_attributes, render

# Frames, height, width of crops. Mostly as many frames as a window has: behind nine frames the later ones of a window
# are decoded worse, as the convolutions see farther back than the clips they learnt from.
KINDS = ((17, 64, 64), (17, 64, 64), (17, 64, 64), (17, 48, 96), (9, 64, 80), (1, 96, 160))
BATCH = {9: 2, 17: 2, 1: 4}
GHOST = 4  # frames of a latent frame: as long after an actor was somewhere, its hue may still be seen there


def moving(where, h, w):
    """u8 [T,h,w]: 255 where the actor's box (x, y, half width, half height) is, was or will be within GHOST frames."""
    y, x = np.mgrid[0:h, 0:w]
    box = where[:, :, None, None]
    inside = (abs(x - box[:, 0]) < box[:, 2] + 2) & (abs(y - box[:, 1]) < box[:, 3] + 2)
    t = len(where)
    return np.stack([inside[max(0, i - GHOST):min(t, i + GHOST + 1)].any(0) for i in range(t)]).astype(np.uint8) * 255


def add_mover(rng, clip, mask):
    """A soft-edged ellipse of any colour goes through the clip: motion that no scene has, of every hue and speed."""
    t, h, w, _ = clip.shape
    y, x = np.mgrid[0:h, 0:w]
    size, at, speed = rng.uniform(3, 11, 2), rng.uniform(0, (h, w)), rng.uniform(-2.5, 2.5, 2) * (0.6, 1)
    where = np.stack([np.array((*(at + speed * (i - t / 2))[::-1], *size[::-1])) for i in range(t)])
    box = where[:, :, None, None]
    inside = np.clip(3 - 3 * (((x - box[:, 0]) / box[:, 2]) ** 2 + ((y - box[:, 1]) / box[:, 3]) ** 2), 0, 1)[..., None]
    clip = clip * (1 - inside) + inside * rng.integers(0, 256, 3)
    return clip.astype(np.uint8), np.maximum(mask, moving(where, h, w))


def crop(rng, t, h, w):
    """u8 [t,h,w,4]: red, green, blue, and 255 where something moves."""
    scene = draw_attributes(rng)
    clip, where = render(scene, int(rng.integers(1 << 40)), int(rng.integers(64)), t, anywhere=rng.random() < 0.7, where=True)
    y, x = rng.integers(HEIGHT - h + 1), rng.integers(WIDTH - w + 1)
    if rng.random() < 0.6:  # around the actor
        cx, cy = where[t // 2, :2] + rng.uniform(-0.3, 0.3, 2) * (w, h)
        y, x = int(np.clip(cy - h / 2, 0, HEIGHT - h)), int(np.clip(cx - w / 2, 0, WIDTH - w))
    clip, mask = clip[:, y:y + h, x:x + w], moving(where - (x, y, 0, 0), h, w)
    if rng.random() < 0.4:
        clip, mask = add_mover(rng, clip, mask)
    if rng.random() < 0.25:  # other hues than scenes have
        clip = clip[..., rng.permutation(3)]
    both = np.concatenate((clip, mask[..., None]), -1)
    return both[:, :, ::-1] if rng.random() < 0.5 else both


class Again:
    """Every window begins with decoded frames of the one before, encoded again. A VAE that never saw its own pictures made
    of them, after twenty times, coloured noise (17 dB): so a share of a batch is what it decoded some steps before, up to
    four times over, and what was drawn is to be found."""

    GENERATIONS, MOST = 4, 48  # pictures kept of a shape

    def __init__(self, share, rng):
        self.share, self.rng, self.kept, self.generation = share, rng, {}, []

    def mixed(self, x, weight):
        """x and weight with some replaced by older ones, and what is shown of them."""
        shown, kept = x.clone(), self.kept.get(x.shape[1:], [])
        self.generation = [0] * len(x)
        for i in range(len(x)):
            if kept and self.rng.random() < self.share:
                x[i], weight[i], shown[i], self.generation[i] = kept.pop(self.rng.integers(len(kept)))
        return x, weight, shown

    def keep(self, x, weight, y):
        kept = self.kept.setdefault(x.shape[1:], [])
        for i, generation in enumerate(self.generation):
            if generation < self.GENERATIONS and len(kept) < self.MOST:
                kept.append((x[i].clone(), weight[i].clone(), y[i], generation + 1))


class Batches:
    """A step's crops [B,4,T,H,W] u8: a function of the step's number."""

    def __init__(self, seed, times):
        self.seed, self.times = seed, times

    def __call__(self, step):
        rng = np.random.default_rng((self.seed, step))
        t, h, w = KINDS[rng.integers(len(KINDS))]
        return torch.from_numpy(np.stack([crop(rng, t, h, w) for _ in range(self.times * BATCH[t])])).permute(0, 4, 1, 2, 3)


def ready(x, device, focus):
    """A batch on the device: pictures in -1..1 and how much their pixels weigh, 1 in the mean."""
    weight = 1 + focus * (x[:, 3:] > 0).to(device).float()
    pictures = (x[:, :3].to(device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last_3d)
    return pictures, weight / weight.mean()


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
            with autocast(device):
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
    p.add_argument("--focus", type=float, default=3.0, help="how much more the pixels weigh where something moves")
    p.add_argument("--again", type=float, default=0.5, help="share of the pictures that are shown as they were decoded before")
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
    again = Again(a.again, np.random.default_rng((a.seed, step, 1)))
    for batch in feed(Batches(a.seed, a.times), step):
        threads.adapt()
        spent = seconds + time.time() - started
        part = min(1.0, max(step / a.steps, spent / (60 * a.minutes)))
        lr = a.lr * min(1, (step + 1) / 100) * min(1, 2 * (1 - part))
        for group in opt.param_groups:
            group["lr"] = lr
        x, weight, shown = again.mixed(*ready(batch, device, a.focus))
        with autocast(device):
            mean, logvar = wan.moments(model, shown)
            mean, logvar = mean.float(), logvar.float().clamp(-12, 4)
            y = wan.decode(model, mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)).float()
        mse, l1 = (weight * (y - x).square()).mean(), (weight * (y - x).abs()).mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        (l1 + 2 * mse + 2e-6 * kl).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        again.keep(x, weight, y.detach().clamp(-1, 1))
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

"""Flow matching for the keyframe and the window transformer.

python3 train_dit.py keyframe FOLDER --latents L --vae V --text T --steps N
python3 train_dit.py window FOLDER --latents L --vae V --text T --steps N --start KEYFRAME_FOLDER

Rerun the same command to go on after a kill; give a larger N to train longer (the learning rate falls
to zero at N). x_t = (1-s) x0 + s e, the model predicts e - x0; s is logit-normal, shifted by 3.
"""
import argparse
import queue
import threading
import time
from pathlib import Path

import numpy as np
import torch

import latents as store
import train_text
import transformer as dit
import vae as wan
from captions import joined, motion_caption, scene_caption
from checkpoint import Ema, load_ema, log_line, resume, save
from optim import Muon
from threads import Threads

SHIFT = 3.0


def is_matrix(p):
    return p.ndim == 2 and min(p.shape) >= 128


def texts_for(rng, attributes, kind, dropout):
    out = []
    for row in attributes:
        scene = store.scene_of(row)
        text = scene_caption(scene, rng, 0.04)[0]
        if kind == "window":
            text = joined(text, motion_caption(scene, rng))
        out.append("" if rng.random() < dropout else text)
    return out


class Batches:
    """Latents and worded captions, drawn in a thread, the same after a resume."""

    def __init__(self, kind, folder, size, pieces, seed, start, dropout=0.1):
        self.kind, self.size, self.pieces, self.seed, self.dropout = kind, size, pieces, seed, dropout
        self.z, self.a = store.open_store(folder, "keyframes" if kind == "keyframe" else "clips")
        self.ready = queue.Queue(4)
        threading.Thread(target=self.work, args=(start,), daemon=True).start()

    def work(self, step):
        while True:
            rng = np.random.default_rng((self.seed, step))
            pick = rng.integers(len(self.z), size=self.size)
            texts = texts_for(rng, self.a[pick], self.kind, self.dropout)
            self.ready.put((store.unpack(self.z[pick]), *train_text.padded(self.pieces, texts)))
            step += 1

    def __iter__(self):
        while True:
            yield self.ready.get()


@torch.no_grad()
def text_rows(encoder, ids, mask):
    """Rows to attend to and the bias that stands for the padding to 64."""
    with torch.autocast(ids.device.type, enabled=False):
        rows = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    return dit.trim(rows, mask.sum(1).long(), train_text.LENGTH)


def condition(z, given, noise=None):
    """The 20 channels beside the noisy latents: 4 of mask, 16 of given latents, zero after them."""
    known = (torch.arange(z.shape[2], device=z.device)[None] < given[:, None]).float()[:, None, :, None, None]
    if noise is not None:
        z = z + noise * torch.randn_like(z)
    return torch.cat((known.expand(-1, 4, -1, *z.shape[3:]), z * known), 1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=("keyframe", "window"))
    p.add_argument("folder", type=Path)
    p.add_argument("--latents", type=Path, required=True)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--steps", type=int, default=1 << 30)
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so much training time in all, if that comes before --steps")
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--start", type=Path, help="the window transformer starts as this keyframe transformer")
    p.add_argument("--log", type=Path)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = a.batch or (64 if a.kind == "keyframe" else 16)
    encoder, pieces = train_text.load(a.text)
    encoder.to(device)
    mean, std = wan.statistics(a.vae)
    model = dit.build(16 if a.kind == "keyframe" else 36)
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)
    if a.start and not (a.folder / "checkpoint.pt").exists():
        keyframe = load_ema(a.start, dit.build(16)).state_dict()
        keyframe["patch_embedding.weight"] = torch.nn.functional.pad(keyframe["patch_embedding.weight"], (0, 0) * 3 + (0, 20))
        model.load_state_dict(keyframe)
    model.to(device)
    opt = Muon(model.parameters(), a.lr, matrix=is_matrix)
    ema = Ema(model, 0.9995)
    step, seconds = resume(a.folder, model, opt, ema)
    noise_source = torch.Generator().manual_seed(a.seed * 1000003 + step)
    started = saved = time.time()
    losses, fn, threads = [], dit.Step(True), Threads()
    for z, ids, mask in Batches(a.kind, a.latents, batch, pieces, a.seed, step):
        threads.adapt()
        part = min(1.0, max(step / a.steps, (seconds + time.time() - started) / (60 * a.minutes)))
        lr = a.lr * min(1, (step + 1) / 100) * min(1, (1 - part) / 0.4)
        for group in opt.param_groups:
            group["lr"] = lr
        z = ((z - mean) / std).to(device)
        text, bias = text_rows(encoder, ids.to(device), mask.to(device))
        s = torch.sigmoid(torch.randn(len(z), generator=noise_source))
        s = (SHIFT * s / (1 + (SHIFT - 1) * s)).to(device)
        e, at = torch.randn(z.shape, generator=noise_source).to(device), s.view(-1, 1, 1, 1, 1)
        x = (1 - at) * z + at * e
        if a.kind == "window":
            # One latent frame given, or two (five frames); some noise, since at run time they are
            # the model's own work, decoded and encoded again.
            given = 1 + (torch.rand(len(z), generator=noise_source) < 0.6).long().to(device)
            rough = 0.15 * torch.rand(len(z), 1, 1, 1, 1, generator=noise_source).to(device)
            x = torch.cat((x, condition(z, given, rough)), 1)
        with torch.autocast(device.type, torch.bfloat16):
            v = dit.forward(model, x, 1000 * s, text, bias, fn)
        loss = (v - (e - z)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        losses.append(loss.item())
        if step % 50 == 0:
            line = dict(step=step, seconds=round(seconds + time.time() - started), samples=step * batch, lr=f"{lr:.2e}", loss=f"{np.mean(losses):.4f}")
            losses = []
            print(line, flush=True)
            if a.log:
                log_line(a.log, line)
        done = part >= 1
        if time.time() - saved > 180 or done:
            save(a.folder, model, opt, ema, step, seconds + time.time() - started)
            saved = time.time()
        if done:
            break


if __name__ == "__main__":
    main()

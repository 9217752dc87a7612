"""Distils a transformer to four steps without guidance: python3 distill.py keyframe FOLDER --teacher BASE ...

The student starts as the teacher and learns to go from one of the four noise levels to the next in one
Euler step, where the teacher goes in several steps with guidance. Rerun the same command to go on.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch

import train_text
import transformer as dit
import vae as wan
from checkpoint import Ema, load_ema, log_line, resume, save
from export import SIGMAS
from optim import Muon
from threads import Threads
from train_dit import Batches, condition, is_matrix, text_rows


@torch.no_grad()
def teach(teacher, x, extra, sigma, target, text, bias, empty, guidance, substeps, fn):
    """From x at sigma to target, per sample, by Euler steps of the teacher with guidance."""
    n = len(x)
    both = torch.cat((text, empty[0].expand(n, -1, -1))), torch.cat((bias, empty[1].expand(n, -1)))
    for k in range(substeps):
        s = sigma + (target - sigma) * k / substeps
        y = x if extra is None else torch.cat((x, extra), 1)
        with torch.autocast(x.device.type, torch.bfloat16):
            v, u = dit.forward(teacher, torch.cat((y, y)), 1000 * torch.cat((s, s)), *both, fn).float().chunk(2)
        x = x + ((target - sigma) / substeps).view(-1, 1, 1, 1, 1) * (u + guidance * (v - u))
    return x


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=("keyframe", "window"))
    p.add_argument("folder", type=Path)
    p.add_argument("--teacher", type=Path, required=True)
    p.add_argument("--latents", type=Path, required=True)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--steps", type=int, default=1 << 30)
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so much training time in all, if that comes before --steps")
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--substeps", type=int, default=4)
    p.add_argument("--log", type=Path)
    p.add_argument("--seed", type=int, default=2)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = a.batch or (32 if a.kind == "keyframe" else 8)
    channels = 16 if a.kind == "keyframe" else 36
    encoder, pieces = train_text.load(a.text)
    encoder.to(device)
    mean, std = wan.statistics(a.vae)
    teacher = load_ema(a.teacher, dit.build(channels)).requires_grad_(False).to(device)
    model = dit.build(channels).to(device)
    model.load_state_dict(teacher.state_dict())
    opt, ema = Muon(model.parameters(), a.lr, matrix=is_matrix), Ema(model, 0.999)
    step, seconds = resume(a.folder, model, opt, ema)
    g = torch.Generator().manual_seed(a.seed * 1000003 + step)
    empty = text_rows(encoder, *(t.to(device) for t in train_text.padded(pieces, [""])))
    levels = torch.tensor(SIGMAS)
    started = saved = time.time()
    losses, fn, threads = [], dit.Step(True), Threads()
    for z, ids, mask in Batches(a.kind, a.latents, batch, pieces, a.seed, step, dropout=0.0):
        threads.adapt()
        part = min(1.0, max(step / a.steps, (seconds + time.time() - started) / (60 * a.minutes)))
        lr = a.lr * min(1, (step + 1) / 50) * min(1, (1 - part) / 0.5)
        for group in opt.param_groups:
            group["lr"] = lr
        z = ((z - mean) / std).to(device)
        text, bias = text_rows(encoder, ids.to(device), mask.to(device))
        i = torch.randint(len(SIGMAS) - 1, (len(z),), generator=g)
        sigma, target = levels[i].to(device), levels[i + 1].to(device)
        at = sigma.view(-1, 1, 1, 1, 1)
        x = (1 - at) * z + at * torch.randn(z.shape, generator=g).to(device)
        extra = None
        if a.kind == "window":
            given = 1 + (torch.rand(len(z), generator=g) < 0.6).long().to(device)
            extra = condition(z, given, 0.15 * torch.rand(len(z), 1, 1, 1, 1, generator=g).to(device))
        # Pad the empty text to the width of the others, masked.
        width = text.shape[1] - empty[0].shape[1]
        none = torch.nn.functional.pad(empty[0], (0, 0, 0, width)), torch.nn.functional.pad(empty[1], (0, width), value=-1e9)
        end = teach(teacher, x, extra, sigma, target, text, bias, none, a.guidance, a.substeps, fn)
        aim = (x - end) / (sigma - target).view(-1, 1, 1, 1, 1)
        with torch.autocast(device.type, torch.bfloat16):
            v = dit.forward(model, x if extra is None else torch.cat((x, extra), 1), 1000 * sigma, text, bias, fn)
        loss = (v - aim).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        losses.append(loss.item())
        if step % 25 == 0:
            line = dict(step=step, seconds=round(seconds + time.time() - started), samples=step * batch, lr=f"{lr:.2e}", loss=f"{np.mean(losses):.5f}")
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

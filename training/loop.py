"""The loop that flow matching and distillation share: options, learning rate by steps or by the clock, running
mean, log, checkpoints."""
import time
from pathlib import Path

import torch

from checkpoint import Ema, log_line, resume, save
from optim import Muon
from threads import Threads


def options(p):
    p.add_argument("kind", choices=("keyframe", "window"))
    p.add_argument("folder", type=Path)
    p.add_argument("--latents", type=Path, required=True)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--steps", type=int, default=1 << 30)
    p.add_argument("--minutes", type=float, default=1e9, help="stop after so much training time in all, if that comes before --steps")
    p.add_argument("--batch", type=int)
    p.add_argument("--lr", type=float)
    p.add_argument("--focus", type=float, default=3.0, help="how much more the actor's latents weigh in the loss; 0 for the last part of a training")
    p.add_argument("--log", type=Path)
    p.add_argument("--seed", type=int, default=1)


def is_matrix(p):
    return p.ndim == 2 and min(p.shape) >= 128


def weighted(error, actor, focus):
    """Mean of squared errors [B,16,T,h,w], those where the actor is [B,T,h,w] counting 1 + focus times: it is found
    sooner where a scene is hardest. But what is drawn is not the same: where it is not settled yet whether the actor
    is here or there, the weights make both likelier, and two are drawn. So flow matching ends with focus 0."""
    weight = (1 + focus * actor)[:, None]
    return (error.square() * weight).mean() / weight.mean()


def run(a, model, decay, batches_from, loss_of, warmup, fall, every):
    """Train until a.steps or a.minutes. batches_from(step) yields batches; loss_of(generator, *batch) is a batch's
    loss. The rate falls to zero over the last `fall` of the way; a line is logged `every` steps."""
    opt, ema = Muon(model.parameters(), a.lr, matrix=is_matrix), Ema(model, decay)
    step, spent = resume(a.folder, model, opt, ema)
    generator = torch.Generator().manual_seed(a.seed * 1000003 + step)
    started = saved = time.time()
    losses, threads = [], Threads()
    for batch in batches_from(step):
        threads.adapt()
        seconds = spent + time.time() - started
        part = min(1.0, max(step / a.steps, seconds / (60 * a.minutes)))
        lr = a.lr * min(1, (step + 1) / warmup) * min(1, (1 - part) / fall)
        for group in opt.param_groups:
            group["lr"] = lr
        loss = loss_of(generator, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        losses.append(loss.detach())
        if step % every == 0:
            line = dict(step=step, seconds=round(seconds), samples=step * a.batch, lr=f"{lr:.2e}", loss=f"{torch.stack(losses).mean().item():.5f}")
            losses = []
            print(line, flush=True)
            if a.log:
                log_line(a.log, line)
        if time.time() - saved > 180 or part >= 1:
            save(a.folder, model, opt, ema, step, seconds)
            saved = time.time()
        if part >= 1:
            break

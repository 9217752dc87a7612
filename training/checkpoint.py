"""Checkpoints that survive a kill at any moment, a running mean of the weights, and CSV logs."""
import csv
import os

import torch


class Ema:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model, step):
        d = min(self.decay, (1 + step) / (10 + step))
        own = model.state_dict()
        torch._foreach_lerp_(list(self.shadow.values()), [own[k] for k in self.shadow], 1 - d)

    def load_into(self, model):
        model.load_state_dict(self.shadow)


def save(folder, model, opt, ema, step, seconds, **more):
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "checkpoint.new"
    torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), ema=ema.shadow, step=step, seconds=seconds, **more), new)
    os.replace(new, folder / "checkpoint.pt")


def resume(folder, model, opt, ema):
    """The step and the seconds already spent; (0, 0.0) when there is nothing to resume from."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    c = torch.load(path, map_location=next(model.parameters()).device)
    model.load_state_dict(c["model"])
    if "opt" in c:  # not so after restore.py: released weights have no optimizer state
        opt.load_state_dict(c["opt"])
    ema.shadow = c["ema"]
    return c["step"], c["seconds"]


def load_ema(folder, model):
    model.load_state_dict(torch.load(folder / "checkpoint.pt", map_location="cpu")["ema"])
    return model.eval()


def log_line(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with open(path, "a", newline="") as f:
        w = csv.DictWriter(f, values)
        if fresh:
            w.writeheader()
        w.writerow(values)

"""Flow matching for the keyframe and the window transformer.

python3 train_dit.py keyframe FOLDER --latents L --vae V --text T --steps N
python3 train_dit.py window FOLDER --latents L --vae V --text T --steps N --start KEYFRAME_FOLDER

Rerun the same command to go on after a kill; give a larger N to train longer (the learning rate falls
to zero at N). x_t = (1-s) x0 + s e, the model predicts e - x0; s is logit-normal, shifted by 3.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import latents as store
import loop
import train_text
import transformer as dit
import vae as wan
from captions import joined, motion_caption, scene_caption
from checkpoint import load_ema
from export import SIGMAS
from feed import feed
from precision import autocast

SHIFT = 3.0


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
    """A step's latents, the actor's place, the given latents and worded captions: a function of the step's number and of how
    many rollouts there are. Given latents of clips are the clips' own; those of rollouts what a chain of windows made."""

    def __init__(self, kind, folder, size, pieces, seed, dropout):
        self.kind, self.size, self.pieces, self.seed, self.dropout = kind, size, pieces, seed, dropout
        self.drawn = store.open_store(folder, "keyframes" if kind == "keyframe" else "clips")
        self.own = store.open_store(folder, "rollouts") if kind == "window" and store.held(folder, "rollouts") else None

    def picked(self, rng, kept, count):
        pick = np.sort(rng.integers(len(kept[0]), size=count))
        z, attributes, actor, *given = (k[pick] for k in kept)
        return z, attributes, actor, given[0] if given else z[:, :, :store.GIVEN]

    def __call__(self, step):
        rng = np.random.default_rng((self.seed, step))
        own = rng.binomial(self.size, len(self.own[0]) / (len(self.own[0]) + len(self.drawn[0]))) if self.own else 0
        parts = [self.picked(rng, self.drawn, self.size - own)] + ([self.picked(rng, self.own, own)] if own else [])
        z, attributes, actor, given = (np.concatenate(p) for p in zip(*parts))
        texts = texts_for(rng, attributes, self.kind, self.dropout)
        return store.unpack(z), torch.from_numpy(actor).float(), store.unpack(given), *train_text.padded(self.pieces, texts)


@torch.no_grad()
def text_rows(encoder, ids, mask):
    """Rows to attend to and the bias that stands for the padding to 64."""
    with torch.autocast(ids.device.type, enabled=False):
        rows = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    rows = torch.nn.functional.pad(rows, (0, 0, 0, 1))
    return dit.trim(rows, mask.sum(1).long(), train_text.LENGTH)


def condition(z, given):
    """The 20 channels beside the noisy latents: 4 of mask, 16 of given latents, zero after them."""
    known = (torch.arange(z.shape[2], device=z.device)[None] < given[:, None]).float()[:, None, :, None, None]
    return torch.cat((known.expand(-1, 4, -1, *z.shape[3:]), z * known), 1)


def coarse(z):
    """Latents [B,C,T,h,w] of which only the large areas are left."""
    y = F.interpolate(F.adaptive_avg_pool2d(z.flatten(1, 2), (z.shape[3] // 2, z.shape[4] // 2)), z.shape[3:], mode="bilinear")
    return y.view_as(z)


def worsen(z, generator):
    """Latents as windows after many windows would have them: softer, of other hues, noisy, and in places on the way to
    another scene's sky and ground, each from not at all to much. What is to be drawn from them is as it was, so that a
    window takes back what the ones before have lost, and the text has the last word."""
    n, c = z.shape[:2]
    amount = torch.rand(4, n, 1, 1, 1, 1, generator=generator).square().to(z.device)
    smooth = lambda x: F.interpolate(x, z.shape[3:], mode="bilinear")[:, :, None].to(z.device)
    soft = F.avg_pool2d(F.pad(z.flatten(1, 2), (1, 1, 1, 1), "replicate"), 3, 1).view_as(z)
    hue = smooth(torch.randn(n, c, 3, 4, generator=generator))
    noise = torch.randn(z.shape, generator=generator).to(z.device)
    other = z[torch.randperm(n, generator=generator).to(z.device)]
    where = smooth(torch.rand(n, 1, 3, 4, generator=generator)) * (torch.rand(n, 1, 1, 1, 1, generator=generator) < 0.6).to(z.device)
    return z + 0.85 * amount[0] * (soft - z) + 0.4 * amount[1] * hue + 0.3 * amount[2] * noise + 1.2 * amount[3] * where * coarse(other - z)


def rough_condition(given, frames, generator):
    """A window's condition as training sees it: one latent frame given, or two (five frames), worsened, since at run time
    they are the model's own work, decoded and encoded again; those of rollouts, which are that already, as if there had been
    still more windows. `frames`: latent frames of the whole window."""
    count = 1 + (torch.rand(len(given), generator=generator) < 0.75).long().to(given.device)
    return condition(F.pad(worsen(given, generator), (0, 0, 0, 0, 0, frames - given.shape[2])), count)


class Source:
    """What both trainings draw from: text encoder, latents' statistics, batches."""

    def __init__(self, a, dropout):
        self.a, self.dropout = a, dropout
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder, self.pieces = train_text.load(a.text)
        self.encoder.to(self.device)
        self.mean, self.std = wan.statistics(a.vae)
        self.channels = 16 if a.kind == "keyframe" else 36

    def batches(self, step):
        return feed(Batches(self.a.kind, self.a.latents, self.a.batch, self.pieces, self.a.seed, self.dropout), step)

    def ready(self, z, actor, given, ids, mask):
        """A batch on the device: normalised latents, the actor's place, normalised given latents, text rows and their bias."""
        z, given = (((v - self.mean) / self.std).to(self.device) for v in (z, given))
        return (z, actor.to(self.device), given, *text_rows(self.encoder, ids.to(self.device), mask.to(self.device)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    loop.options(p)
    p.add_argument("--few-steps", action="store_true", help="train at the four noise levels of few-step sampling alone, without empty texts")
    p.add_argument("--start", type=Path, help="the window transformer starts as this keyframe transformer")
    a = p.parse_args()
    a.batch = a.batch or (128 if a.kind == "keyframe" else 32)
    a.lr = a.lr or 2e-3
    torch.manual_seed(a.seed)
    source = Source(a, dropout=0.0 if a.few_steps else 0.1)
    levels = torch.tensor(SIGMAS[:-1])
    model = dit.build(source.channels)
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)
    if a.start and not (a.folder / "checkpoint.pt").exists():
        keyframe = load_ema(a.start, dit.build(16)).state_dict()
        keyframe["patch_embedding.weight"] = torch.nn.functional.pad(keyframe["patch_embedding.weight"], (0, 0) * 3 + (0, 20))
        model.load_state_dict(keyframe)
    model.to(source.device)
    forward = dit.compiled(source.device)

    def loss_of(generator, *batch):
        z, actor, given, text, bias = source.ready(*batch)
        s = torch.sigmoid(torch.randn(len(z), generator=generator))
        s = (SHIFT * s / (1 + (SHIFT - 1) * s)).to(z.device)
        if a.few_steps:
            s = levels[torch.randint(len(levels), (len(z),), generator=generator)].to(z.device)
        e, at = torch.randn(z.shape, generator=generator).to(z.device), s.view(-1, 1, 1, 1, 1)
        x = (1 - at) * z + at * e
        if a.kind == "window":
            x = torch.cat((x, rough_condition(given, z.shape[2], generator)), 1)
        with autocast(z.device):
            v = forward(model, x, 1000 * s, text, bias)
        return loop.weighted(v - (e - z), actor, a.focus)

    loop.run(a, model, 0.9995, source.batches, loss_of, warmup=100, fall=0.4, every=50)


if __name__ == "__main__":
    main()

"""One pass of the transformer in every form: with and without image branch, one picture and two, times by token."""
import torch

from common import generator, save_case
from models import shapes_of


def latent_size(kind, shapes):
    stride = 16 if kind.prefix else 8
    return shapes.latent_frames, shapes.height // stride, shapes.width // stride


def text_of(shapes, g, rows):
    text = torch.zeros(shapes.text_rows, shapes.text_dim)
    text[:rows] = torch.randn(rows, shapes.text_dim, generator=g)
    return text


def one(model, kind, shapes, g, time, rows, frames=None, given=0):
    length, height, width = latent_size(kind, shapes)
    length = frames or length
    x = torch.randn(model.config.in_channels, length, height, width, generator=g)
    text = text_of(shapes, g, rows)
    case = {"latents": x, "time": torch.tensor([time]), "text": text[:rows],
            "text_length": torch.tensor([shapes.text_rows], dtype=torch.int32),
            "prefix_frames": torch.tensor([given], dtype=torch.int32)}
    extra, t = {}, torch.tensor([time])
    if kind.clip:
        rows = (1 + (shapes.clip_size // 14) ** 2)
        case["image"] = torch.randn(2 * rows if kind.last else rows, shapes.clip_dim, generator=g)
        image = case["image"].reshape(-1, rows, shapes.clip_dim)
        extra["encoder_hidden_states_image"] = image
    if kind.prefix:
        mask = torch.ones(length, height, width)
        mask[:given] = 0
        t = (mask[:, ::2, ::2] * time).flatten()[None]
    case["velocity"] = model(x[None], t, text[None], return_dict=False, **extra)[0][0]
    return case


@torch.no_grad()
def make(out, shapes, kind, pipeline):
    g = generator(shapes, 200)
    own = shapes_of(kind, shapes)
    experts = {"": pipeline.transformer}
    if kind.experts:
        experts = {"high": pipeline.transformer, "low": pipeline.transformer_2}
    for which, model in experts.items():
        cases = {"usual": one(model, kind, own, g, 937.5, 120),
                 "brief-text": one(model, kind, own, g, 421.0, 1),  # keys and values made anew
                 "one-frame": one(model, kind, own, g, 12.0, 40, frames=1)}
        if kind.name == "t2v":
            cases["full-text"] = one(model, kind, own, g, 12.0, own.text_rows, frames=1)
        if kind.prefix:
            cases["prefix-1"] = one(model, kind, own, g, 700.0, 11, given=1)
            cases["prefix-2"] = one(model, kind, own, g, 700.0, 11, given=2)
        for name, case in cases.items():
            case["expert"] = torch.tensor([which == "low"], dtype=torch.int32)
            save_case(out / kind.name, "transformer", "-".join(filter(None, (which, name))), case)

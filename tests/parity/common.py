"""What every family of components shares: shapes, random weights, our noise, files of cases.

A case is a safetensors file beside the model that it is of, <kind>.<name>.safetensors, which the C program
(parity.c) runs by its kind. Tensors have no batch axis.
"""
import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file


@dataclass
class Shapes:
    """Of the models and inputs. width, height and frames are in pixels; they are of the Wan2.1 VAE's models, and
    those of Wan2.2's are made twice as large."""
    seed: int = 1
    dim: int = 48
    heads: int = 2
    layers: int = 2
    frames: int = 9
    width: int = 80
    height: int = 48
    steps: int = 20
    text_dim: int = 40
    text_rows: int = 512  # the reference's own length where a model has an image branch
    clip_dim: int = 32
    clip_size: int = 56
    vae_dim: int = 16

    @property
    def ffn(self):
        return self.dim * 2 + 8

    @property
    def latent_frames(self):
        return (self.frames - 1) // 4 + 1


def generator(shapes, salt):
    return torch.Generator().manual_seed(shapes.seed * 1000 + salt)


def randomise(module, shapes, salt):
    """Let no bias be 0 and no gain 1, and round every weight to bfloat16, so that files are small and equal."""
    g = generator(shapes, salt)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim == 1 or name.endswith(("gamma", "pos_embed")):
                parameter.add_(torch.randn(parameter.shape, generator=g) * 0.1)
            parameter.copy_(parameter.bfloat16().float())
    return module.eval()


def narrow(module):
    """The module as its file holds it."""
    return copy.deepcopy(module).to(torch.bfloat16)


def save_case(folder, kind, name, tensors):
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / f"{kind}.{name}.safetensors"
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)


def philox_normal(count, seed, stream, first=0):
    """base/random.c: element i of (seed, stream); `first` is even."""
    assert first % 2 == 0
    block = np.arange(first // 2, first // 2 + (count + 1) // 2, dtype=np.uint64)
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1 = block & low, block >> high
    x2 = np.full_like(block, stream & 0xFFFFFFFF)
    x3 = np.full_like(block, stream >> 32)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * x0, np.uint64(0xCD9E8D57) * x2
        x0, x1 = (b >> high) ^ x1 ^ np.uint64(k0), b & low
        x2, x3 = (a >> high) ^ x3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF

    def unit(h, l):
        return (((h << high | l) >> np.uint64(11)) + np.uint64(1)).astype(np.float64) * 2.0 ** -53

    radius, angle = np.sqrt(-2 * np.log(unit(x0, x1))), 2 * np.pi * unit(x2, x3)
    out = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)[:count]
    return torch.from_numpy(out.astype(np.float32))


class Noise:
    """The numbers that a request of (seed, stream) draws, in its order."""

    def __init__(self, seed, stream):
        self.seed, self.stream, self.at = seed, stream, 0

    def next(self, shape):
        count = int(np.prod(shape))
        out = philox_normal(count, self.seed, self.stream, self.at)
        self.at += count
        return out.reshape(shape)


def wan22(shapes):
    """The same latents through a VAE of twice the stride."""
    return replace(shapes, width=2 * shapes.width, height=2 * shapes.height)

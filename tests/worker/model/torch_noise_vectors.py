"""What torch.randn gives, for torch_noise.c: python3 torch_noise_vectors.py OUT.safetensors

Draws of these sizes one after another from one generator, for each seed; on a machine with AVX2.
(torch 2.15)
"""
import sys

import torch
from safetensors.torch import save_file

SEEDS = (0, 42, 2**32 + 5, 2**63 - 1)
SIZES = (1, 2, 15, 16, 17, 3, 31, 32, 33, 100, 5, 700)

out = {}
for seed in SEEDS:
    generator = torch.Generator("cpu").manual_seed(seed)
    out[f"seed.{seed}"] = torch.cat([torch.randn(size, generator=generator) for size in SIZES])
save_file(out, sys.argv[1])

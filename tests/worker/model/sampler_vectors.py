"""Trajectories of diffusers' schedulers for sampler.c: python3 sampler_vectors.py OUT.safetensors

The network is v(x, t) = a·x + b·sin(3x) + c·t/1000 with its own a, b, c for every element, so that a
wrong time, order or coefficient shows. (diffusers 0.42.1, torch 2.15)
"""
import sys

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from safetensors.torch import save_file

COUNT = 16
g = torch.Generator().manual_seed(1)
out = {k: torch.randn(COUNT, generator=g) * s for k, s in (("noise", 1.0), ("a", 0.5), ("b", 0.3), ("c", 0.5))}


def velocity(x, t):
    return out["a"] * x + out["b"] * torch.sin(3 * x) + out["c"] * float(t) / 1000


def run(name, scheduler):
    x, path = out["noise"][None], []
    for t in scheduler.timesteps:
        x = scheduler.step(velocity(x, t), t, x, return_dict=False)[0]
        path.append(x)
    out[f"{name}.times"] = scheduler.timesteps.float()
    out[f"{name}.sigmas"] = scheduler.sigmas.float()
    out[f"{name}.path"] = torch.cat(path)


for steps, shift in ((1, 5.0), (2, 3.0), (3, 5.0), (4, 5.0), (20, 3.0), (50, 12.0)):
    s = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    s.set_timesteps(steps)
    run(f"unipc.{steps}.{shift:g}", s)
    s = FlowMatchEulerDiscreteScheduler(shift=shift)
    s.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    run(f"euler.{steps}.{shift:g}", s)
save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1])

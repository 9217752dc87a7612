"""A forward whose tokens have two times: python3 time_vectors.py tests/vectors/random_wan OUT.safetensors

Input, text and weights are those of the folder and its reference.safetensors; every third token has time
0, as the given frames of TI2V have. (diffusers 0.42.1, torch 2.15)
"""
import json
import sys
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
config = json.loads((folder / "keyframe" / "config.json").read_text())
model = WanTransformer3DModel(**{k: v for k, v in config.items() if k[0] != "_"}).eval()
model.load_state_dict({k: v.float() for k, v in load_file(folder / "keyframe" / "diffusion_pytorch_model.safetensors").items()})
given = load_file(folder / "reference.safetensors")
x, text, t = (given["keyframe.0." + k] for k in ("input", "text", "timestep"))
tokens = x.shape[1] * x.shape[2] * x.shape[3] // 4
times = torch.where(torch.arange(tokens) % 3 == 0, 0.0, t)
with torch.no_grad():
    velocity = model(x[None], times[None], text[None], return_dict=False)[0][0]
save_file({"velocity": velocity.contiguous()}, sys.argv[2])

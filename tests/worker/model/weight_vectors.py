"""Small weight files as other programs write them, for weights.c: python3 weight_vectors.py OUT-FOLDER

torch.save's own output, and a GGUF file of random blocks with what the gguf package makes of them.
(torch 2.15, gguf 0.19)
"""
import sys
from collections import OrderedDict

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

out = sys.argv[1]
g = torch.Generator().manual_seed(4)


class Net(torch.nn.Module):
    """A state dict as modules give them: an OrderedDict with attributes."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(6)
        self.proj = torch.nn.Linear(6, 4, dtype=torch.bfloat16)
        self.conv = torch.nn.Conv3d(2, 3, (1, 2, 2), dtype=torch.float16)
        self.register_buffer("count", torch.tensor(7))


state = Net().state_dict()
for v in state.values():
    if v.is_floating_point():
        v.copy_(torch.randn(v.shape, generator=g))
whole = torch.randn(5, 8, generator=g)
state["shared.all"] = whole
state["shared.rows"] = whole[1:3]  # a view of the same storage, at an offset
state["shared.one"] = whole[2:3, 4:]  # strides of single rows do not matter
state["double"] = torch.randn(3, generator=g, dtype=torch.float64)
state["int"] = torch.arange(4, dtype=torch.int32)
state["byte"] = torch.arange(5, dtype=torch.uint8)
torch.save(state, f"{out}/state.pth")
for protocol in (4, 5):
    torch.save(state, f"{out}/protocol{protocol}.pth", pickle_protocol=protocol)
narrow = {"a": torch.randn(4, 6, generator=torch.Generator().manual_seed(4)).to(torch.float8_e4m3fn)}
narrow["b"] = narrow["a"].float().to(torch.float8_e5m2)
narrow["a.rows"] = narrow["a"][1:3]
torch.save(narrow, f"{out}/narrow.pth")
save_file({k: v.clone() for k, v in narrow.items()}, f"{out}/narrow.safetensors")
save_file({k: v.clone().contiguous() for k, v in state.items()}, f"{out}/state.safetensors")
parameters = {k: torch.nn.Parameter(v) for k, v in state.items() if k.startswith("proj")}
torch.save({"generator_ema": parameters, "step": 1000, "lr": 2e-6, "betas": [0.9, 0.99], "name": "naïve",
            "big": 1 << 40, "less": -(1 << 35), "none": None, "flags": (True, False)}, f"{out}/training.pt")
torch.save({"a": whole.t()}, f"{out}/transposed.pth")
torch.save({"a": torch.nn.Linear(2, 2)}, f"{out}/module.pth")
torch.save(OrderedDict(a=whole), f"{out}/old.pth", _use_new_zipfile_serialization=False)

# GGUF: random bytes with scales that are finite, tiny ones too.
rng = np.random.default_rng(4)
writer = gguf.GGUFWriter(f"{out}/blocks.gguf", "wan")
writer.add_array("some.texts", ["a", "", "ü"])
writer.add_array("some.numbers", [1, 2, 3])
expected = {}
ROWS = 3
for name, scales in (("Q8_0", (0,)), ("Q4_0", (0,)), ("Q4_K", (0, 2)), ("Q5_K", (0, 2)), ("Q6_K", (208,))):
    kind = getattr(gguf.GGMLQuantizationType, name)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (ROWS, 512 // block, size), dtype=np.uint8)
    for at in scales:
        d = rng.standard_normal(data.shape[:2]).astype(np.float16)
        d[0, 0] = 3e-7  # subnormal
        data[:, :, at : at + 2] = d[..., None].view(np.uint8)
    data = data.reshape(ROWS, -1)
    writer.add_tensor(name, data, raw_dtype=kind)
    expected[name] = torch.from_numpy(gguf.quants.dequantize(data, kind))
for name, dtype in (("F32", np.float32), ("F16", np.float16)):
    value = rng.standard_normal((2, 3)).astype(dtype)
    writer.add_tensor(name, value)
    expected[name] = torch.from_numpy(value.astype(np.float32))
half = torch.randn(3, 5, generator=g).bfloat16()
writer.add_tensor("BF16", half.view(torch.int16).numpy().view(np.uint8).reshape(3, 10),
                  raw_dtype=gguf.GGMLQuantizationType.BF16)
expected["BF16"] = half.float()
# Flattened, with its shape beside it; and in five dimensions.
value = rng.standard_normal((4, 2, 1, 2, 2)).astype(np.float32)
writer.add_array("comfy.gguf.orig_shape.flat", list(value.shape))
writer.add_tensor("flat", value.reshape(-1))
writer.add_tensor("five", value)
expected["flat"] = expected["five"] = torch.from_numpy(value.copy())
expected["five"] = expected["five"].clone()
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(expected, f"{out}/blocks.safetensors")

"""Writes a model folder in the diffusers layout: python3 export.py OUT --text T --vae V [--keyframe K] [--window W].

T, V, K, W are training folders; the running mean of the weights is taken, as bf16. A transformer that
is not given is random, so that programs can be built against files of the right shape.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import checkpoint
import train_text
import transformer as dit
import vae as wan

INDEX = {
    "_class_name": "WanWindowPipeline",
    "_diffusers_version": "0.42.1",
    "tokenizer": ["transformers", "T5Tokenizer"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "keyframe": ["diffusers", "WanTransformer3DModel"],
    "window": ["diffusers", "WanTransformer3DModel"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    # The window's condition: the given frames are encoded on their own, and the latents after theirs
    # are 0 once normalised. Wan2.1 encodes grey frames there instead.
    "window_condition": "latent_zeros",
    "window_overlaps": [1, 5],
    "window_frames": 17,
    "width": 160,
    "height": 96,
    "fps": 16,
}
SIGMAS = [1.0, 0.9, 0.75, 0.5, 0.0]  # four steps, shift 3


def scheduler(steps, guidance, sigmas=None, shift=3.0):
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1", "num_train_timesteps": 1000,
              "shift": shift, "flow_shift": shift, "num_inference_steps": steps, "guidance_scale": guidance}
    return {**config, "sigmas": sigmas} if sigmas else config


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_module(folder, name, tensors, config):
    write_json(folder / "config.json", config)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in tensors.items()}
    save_file(tensors, folder / name, metadata={"format": "pt"})


def diffusers_config(module):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in module.config.items() if k != "_use_default_values" and k != "_name_or_path"}


def write(out, encoder, spiece, vae, keyframe, window, schedule, text_len):
    write_json(out / "model_index.json", INDEX)
    write_json(out / "scheduler" / "scheduler_config.json", schedule)
    (out / "tokenizer").mkdir(exist_ok=True)
    shutil.copy(spiece, out / "tokenizer" / "spiece.model")
    write_json(out / "tokenizer" / "tokenizer_config.json", {
        "tokenizer_class": "T5Tokenizer", "model_max_length": text_len, "pad_token": "<pad>", "eos_token": "</s>",
        "bos_token": "<s>", "unk_token": "<unk>", "extra_ids": 0, "legacy": False})
    text = {k: v for k, v in encoder.state_dict().items() if k != "encoder.embed_tokens.weight"}
    config = {**encoder.config.to_dict(), "architectures": ["UMT5EncoderModel"], "dtype": "bfloat16"}
    write_module(out / "text_encoder", "model.safetensors", text, config)
    for name, module in (("vae", vae), ("keyframe", keyframe), ("window", window)):
        write_module(out / name, "diffusion_pytorch_model.safetensors", module.state_dict(), diffusers_config(module))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("out", type=Path)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--keyframe", type=Path)
    p.add_argument("--window", type=Path)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--few-steps", action="store_true", help="the weights are distilled: four fixed steps, no guidance")
    a = p.parse_args()
    torch.manual_seed(0)
    encoder, _ = train_text.load(a.text)
    vae = wan.load(a.vae)
    keyframe, window = dit.build(16), dit.build(36)
    if a.keyframe:
        checkpoint.load_ema(a.keyframe, keyframe)
    if a.window:
        checkpoint.load_ema(a.window, window)
    schedule = scheduler(4, 1.0, SIGMAS) if a.few_steps else scheduler(a.steps, a.guidance)
    write(a.out, encoder, a.text / "spiece.model", vae, keyframe, window, schedule, train_text.LENGTH)
    total = sum(f.stat().st_size for f in a.out.rglob("*") if f.is_file())
    print(f"{a.out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

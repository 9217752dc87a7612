"""Both video autoencoders with random weights, and what diffusers' AutoencoderKLWan makes of them:

    python3 vae.py OUT [--size golden|live|full]      (diffusers 0.42.1, torch, safetensors)

Writes OUT/wan21/ and OUT/wan22/: config.json and diffusion_pytorch_model.safetensors as in a model's
vae/ folder, and reference.safetensors: vae.encode.pixels and .normalised, vae.decode.normalised
and .pixels, each [channels, frames, height, width].

golden: few channels, odd numbers of them, few frames; OUT/wan22 is committed as
        tests/worker/model/vectors/wan22_vae.
live: wider, more frames, odd sizes; for test_model_vae OUT/wan21 OUT/wan22.
full: the published widths, weights only; for vae_measure.
"""
import argparse
import json
import pathlib

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

WAN22 = dict(is_residual=True, patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
SIZES = {
    # name: settings, encode (frames, height, width), decode (latent frames, height, width)
    "golden": {
        "wan22": (dict(base_dim=3, decoder_base_dim=4, z_dim=48), (9, 48, 80), (3, 2, 3)),
    },
    "live": {
        "wan21": (dict(base_dim=16), (13, 40, 72), (4, 5, 9)),
        "wan22": (dict(base_dim=20, decoder_base_dim=32, z_dim=48), (13, 48, 80), (4, 3, 5)),
    },
    "full": {
        "wan21": (dict(base_dim=96), None, None),
        "wan22": (dict(base_dim=160, decoder_base_dim=256, z_dim=48), None, None),
    },
}


def build(name, settings, generator):
    """Weights whose activations neither vanish nor explode, exact in bf16."""
    channels = settings.get("z_dim", 16)
    settings = dict(settings, **(WAN22 if name == "wan22" else {}))
    settings["latents_mean"] = [round(0.05 * (i % 7) - 0.15, 4) for i in range(channels)]
    settings["latents_std"] = [round(0.5 + 0.1 * (i % 5), 4) for i in range(channels)]
    vae = AutoencoderKLWan(**settings).eval().requires_grad_(False)
    for key, tensor in vae.state_dict().items():
        scale = 0.1 if tensor.dim() == 1 else (tensor[0].numel() ** -0.5)
        noise = torch.randn(tensor.shape, generator=generator) * scale
        tensor.copy_((1 + 0.1 * noise / scale if "gamma" in key else noise).bfloat16())
    return vae


def run(vae, pixels, latents):
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    encoded = (vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float() - mean) / std
    return encoded, vae.decode((latents * std + mean).to(vae.dtype)).sample.float()


def reference(vae, encode, decode, generator):
    """*.bfloat16 is how far diffusers in bf16 is from itself in f32: random weights amplify rounding
    more than trained ones, the more the narrower."""
    pixels = (torch.rand((1, 3, *encode), generator=generator) * 2 - 1).bfloat16().float()
    latents = torch.randn((1, vae.config.z_dim, *decode), generator=generator)
    encoded, decoded = run(vae, pixels, latents)
    error = [((a - b).norm() / b.norm()).view(1) for a, b in zip(run(vae.bfloat16(), pixels, latents), (encoded, decoded))]
    return {
        "vae.encode.pixels": pixels[0].bfloat16(),
        "vae.encode.normalised": encoded[0],
        "vae.encode.bfloat16": error[0],
        "vae.decode.normalised": latents[0],
        "vae.decode.pixels": decoded[0],
        "vae.decode.bfloat16": error[1],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--size", choices=SIZES, default="live")
    arguments = parser.parse_args()
    for name, (settings, encode, decode) in SIZES[arguments.size].items():
        generator = torch.Generator().manual_seed(22)
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        vae = build(name, settings, generator)
        config = {key: value for key, value in vae.config.items() if not key.startswith("_")}
        config = {"_class_name": "AutoencoderKLWan", **config}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {key: value.bfloat16() for key, value in vae.state_dict().items()}
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
        if encode is not None:
            tensors = reference(vae, encode, decode, generator)
            save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "reference.safetensors")
            print(name, {key: float(value.float().std() if value.numel() > 1 else value) for key, value in tensors.items()})


if __name__ == "__main__":
    main()

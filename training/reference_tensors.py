"""Inputs and outputs of every component, f32, from the published classes, for the C runtime's tests.

python3 reference_tensors.py MODEL --out FILE.safetensors
    of an exported model folder.
python3 reference_tensors.py --random --seed N --spiece spiece.model --out FOLDER
    makes a tiny random model in FOLDER (odd sizes, the full VAE's shape) and FOLDER/reference.safetensors.

Tensors have no batch axis. vae.*.latents are raw, as the VAE takes and gives them; normalised ones are
(raw - latents_mean) / latents_std. Weights are those of the files, widened to f32.
"""
import argparse
import hashlib
import json
from pathlib import Path

import sentencepiece
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel

import export

PROMPTS = (("a red hot air balloon over the sea at night, mountains behind", "it rises"),
           ("White bird above a snowfield at dawn in the rain, zyx\u00fc", "moves to the left"))


def load(folder):
    """The components of a model folder, f32."""
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    text = UMT5EncoderModel(UMT5Config(**config)).eval()
    weights = {k: v.float() for k, v in load_file(folder / "text_encoder" / "model.safetensors").items()}
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    text.load_state_dict(weights)

    def model(cls, name):
        config = {k: v for k, v in json.loads((folder / name / "config.json").read_text()).items() if k[0] != "_"}
        made = cls(**config).eval()
        made.load_state_dict({k: v.float() for k, v in load_file(folder / name / "diffusion_pytorch_model.safetensors").items()})
        return made

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer" / "spiece.model"))
    length = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())["model_max_length"]
    return dict(text=text, pieces=pieces, length=length, vae=model(AutoencoderKLWan, "vae"),
                keyframe=model(WanTransformer3DModel, "keyframe"), window=model(WanTransformer3DModel, "window"),
                schedule=json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))


def text_rows(m, prompt):
    ids = torch.tensor([m["pieces"].encode(prompt)[:m["length"] - 1] + [1]])
    out = m["text"](input_ids=ids).last_hidden_state[0]
    rows = torch.zeros(m["length"], out.shape[1])
    rows[:len(out)] = out
    return ids[0], out, rows


def sigmas_of(schedule):
    if "sigmas" in schedule:
        return schedule["sigmas"]
    n, k = schedule["num_inference_steps"], schedule["flow_shift"]
    return [k * s / (1 + (k - 1) * s) for s in (1 - i / n for i in range(n))] + [0.0]


@torch.no_grad()
def tensors(m, grid, frames, crop):
    """grid: latent height and width for the transformers; crop: pixels and frames for the VAE."""
    g = torch.Generator().manual_seed(7)
    out = {}

    def noise(*shape):
        return torch.randn(*shape, generator=g)

    for i, (scene, motion) in enumerate(PROMPTS):
        ids, rows, text = text_rows(m, scene)
        out[f"text.{i}.ids"], out[f"text.{i}.output"] = ids.to(torch.int32), rows
        ids, rows, both = text_rows(m, scene + ". " + motion)
        out[f"text.{i}.joined.ids"], out[f"text.{i}.joined.output"] = ids.to(torch.int32), rows
        for name, width, length, rows in (("keyframe", 16, 1, text), ("window", 36, frames, both)):
            t, x = torch.tensor([937.5, 421.0])[i:i + 1], noise(width, length, *grid)
            if name == "window":
                given = 1 + i  # one latent frame given, or two
                x[16:20] = 0
                x[16:20, :given] = 1
                x[20:, given:] = 0
            v = m[name](x[None], t, rows[None], return_dict=False)[0][0]
            out.update({f"{name}.{i}.input": x, f"{name}.{i}.timestep": t, f"{name}.{i}.text": rows.clone(), f"{name}.{i}.velocity": v})
    ids, _, empty = text_rows(m, "")
    out["text.empty.ids"], out["text.empty.rows"] = ids.to(torch.int32), empty

    # Euler steps of the keyframe with guidance, as the scheduler's file says.
    sigmas, guidance = sigmas_of(m["schedule"]), m["schedule"]["guidance_scale"]
    x, text = noise(16, 1, *grid), out["keyframe.0.text"]
    out["sampler.sigmas"], out["sampler.guidance"], out["sampler.noise"] = torch.tensor(sigmas), torch.tensor([guidance]), x
    for k in range(len(sigmas) - 1):
        t = torch.tensor([1000 * sigmas[k]])
        v = m["keyframe"](x[None], t, text[None], return_dict=False)[0][0]
        if guidance != 1:
            u = m["keyframe"](x[None], t, empty[None], return_dict=False)[0][0]
            v = u + guidance * (v - u)
        x = x + (sigmas[k + 1] - sigmas[k]) * v
        if k in (0, 1, len(sigmas) - 2):
            out[f"sampler.step{k}"] = x

    length, height, width = crop
    z = noise(16, 1 + (length - 1) // 4, height // 8, width // 8)
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (m["vae"].config.latents_mean, m["vae"].config.latents_std))
    out["vae.decode.normalised"], out["vae.decode.latents"] = z, z * std + mean
    out["vae.decode.pixels"] = m["vae"].decode((z * std + mean)[None], return_dict=False)[0][0]
    pixels = torch.rand(3, length, height, width, generator=g) * 2 - 1
    pixels = torch.nn.functional.avg_pool3d(pixels[None], (1, 5, 5), 1, (0, 2, 2))[0] * 3
    out["vae.encode.pixels"] = pixels.clamp(-1, 1)
    out["vae.encode.latents"] = m["vae"].encode(out["vae.encode.pixels"][None]).latent_dist.mean[0]
    out["vae.encode.normalised"] = (out["vae.encode.latents"] - mean) / std
    return {k: v.clone().contiguous() for k, v in out.items()}


def weights_hash(folder):
    h = hashlib.sha256()
    for f in sorted(folder.rglob("*.safetensors")):
        if f.name != "reference.safetensors":
            h.update(f.read_bytes())
    return h.hexdigest()


def random_model(folder, seed, spiece):
    torch.manual_seed(seed)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(spiece)).get_piece_size()
    text = UMT5EncoderModel(UMT5Config(
        vocab_size=pieces, d_model=40, d_kv=12, num_heads=3, d_ff=56, num_layers=2, feed_forward_proj="gated-gelu",
        pad_token_id=0, eos_token_id=1, tie_word_embeddings=False))
    shape = dict(num_attention_heads=3, attention_head_dim=24, out_channels=16, text_dim=40, freq_dim=32, ffn_dim=152,
                 num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6)
    keyframe, window = WanTransformer3DModel(in_channels=16, **shape), WanTransformer3DModel(in_channels=36, **shape)
    vae = AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
                           temperal_downsample=[False, True, True])  # latents_mean and std are Wan2.1's
    for module in (text, keyframe, window, vae):
        for name, q in module.named_parameters():
            if q.ndim == 1 or name.endswith("gamma"):  # let no bias or gain be 0 or 1
                q.data.add_(torch.randn_like(q) * 0.1)
    for block in text.encoder.block:
        block.layer[0].SelfAttention.relative_attention_bias.weight.data.normal_()
    export.write(folder, text, spiece, vae, keyframe, window, export.scheduler(3, 2.5), 64)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path, nargs="?")
    p.add_argument("--random", action="store_true")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--spiece", type=Path)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    if a.random:
        random_model(a.out, a.seed, a.spiece)
        model, out, shape = a.out, a.out / "reference.safetensors", ((6, 10), 3, (9, 24, 40))
    else:
        model, out, shape = a.model, a.out, ((12, 20), 5, (17, 48, 64))
    made = tensors(load(model), *shape)
    save_file(made, out, metadata={"weights_sha256": weights_hash(model), "prompts": json.dumps(PROMPTS)})
    print(f"{out}: {len(made)} tensors, {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

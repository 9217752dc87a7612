"""A random model of each published kind, as diffusers saves it."""
import json
from dataclasses import dataclass

import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel

import clip
import vae
from common import generator, narrow, randomise, wan22


@dataclass
class Kind:
    name: str
    image: bool = False      # condition channels beside the noise
    clip: bool = False       # an image branch
    last: bool = False       # positions for two pictures
    experts: bool = False
    prefix: bool = False     # per-token times, the VAE of Wan2.2
    boundary: float = None
    shift: float = 5.0


KINDS = (
    Kind("t2v"),
    Kind("i2v", image=True, clip=True, shift=3.0),
    Kind("flf2v", image=True, clip=True, last=True, shift=16.0),
    Kind("ti2v", prefix=True),
    Kind("t2v-a14b", experts=True, boundary=0.875, shift=12.0),
    Kind("i2v-a14b", image=True, experts=True, boundary=0.9),
)


def strengthen(model):
    """Fresh layers hardly hear the text: most of its rows are padding. Let a wrong text or guidance show."""
    with torch.no_grad():
        for block in model.blocks:
            for gain in (block.attn2.norm_q, block.attn2.norm_k):
                gain.weight.mul_(1.5)
            for linear in (block.attn2.to_v, block.attn2.to_out[0], block.ffn.net[2]):
                linear.weight.mul_(2)
    return model


def transformer(kind, shapes, salt):
    channels = 48 if kind.prefix else 16
    config = dict(num_attention_heads=shapes.heads, attention_head_dim=shapes.dim // shapes.heads,
                  in_channels=2 * channels + 4 if kind.image else channels, out_channels=channels,
                  text_dim=shapes.text_dim, freq_dim=32, ffn_dim=shapes.ffn, num_layers=shapes.layers,
                  cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6)
    if kind.clip:
        config.update(image_dim=shapes.clip_dim, added_kv_proj_dim=shapes.dim)
    if kind.last:
        config.update(pos_embed_seq_len=2 * (1 + (shapes.clip_size // 14) ** 2))
    torch.manual_seed(shapes.seed + salt)
    return randomise(strengthen(WanTransformer3DModel(**config)), shapes, salt)


def autoencoder(kind, shapes):
    settings = dict(base_dim=shapes.vae_dim, **(dict(decoder_base_dim=shapes.vae_dim + 2, z_dim=48) if kind.prefix else {}))
    return vae.build("wan22" if kind.prefix else "wan21", settings, generator(shapes, 90))


def scheduler(kind):
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000,
                                   flow_shift=kind.shift)


def shapes_of(kind, shapes):
    return wan22(shapes) if kind.prefix else shapes


def make(out, shapes, kind):
    """The pipelines of a kind: from text (None where it has none) and from pictures, sharing their parts."""
    index = KINDS.index(kind)
    parts = dict(tokenizer=None, text_encoder=None, vae=autoencoder(kind, shapes), scheduler=scheduler(kind),
                 transformer=transformer(kind, shapes, 100 + 10 * index),
                 transformer_2=transformer(kind, shapes, 105 + 10 * index) if kind.experts else None)
    settings = dict(boundary_ratio=kind.boundary, expand_timesteps=kind.prefix)
    encoder = dict(image_encoder=clip.encoder(shapes) if kind.clip else None,
                   image_processor=clip.processor(shapes) if kind.clip else None)
    text = None if kind.image else WanPipeline(**parts, **settings)
    image = WanImageToVideoPipeline(**parts, **encoder, **settings) if kind.image or kind.prefix else None
    save(out / kind.name, text or image)
    for pipeline in (text, image):
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)
    return text, image


def save(folder, pipeline):
    """As save_pretrained does, every component in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("transformer", "transformer_2", "vae", "image_encoder"):
        component = getattr(pipeline, name, None)
        if component is not None:
            narrow(component).save_pretrained(folder / name)
    pipeline.scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({
        "_class_name": type(pipeline).__name__,
        "boundary_ratio": pipeline.config.boundary_ratio,
        "expand_timesteps": pipeline.config.expand_timesteps}, indent=2) + "\n")

"""The Wan2.1 VAE (diffusers' AutoencoderKLWan) run over whole clips at once.

The published forward goes chunk by chunk with caches; causal padding makes one pass over the clip the
same function, and several times faster to train. The parameters are those of the diffusers module
itself, so names cannot differ; test_models.py holds the two forwards against each other.
"""
import json

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan

from checkpoint import load_ema

CONFIG = dict(base_dim=16, z_dim=16, dim_mult=[1, 2, 4, 6], num_res_blocks=1, attn_scales=[],
              temperal_downsample=[False, True, True])


def build(**changes):
    # Diffusers divides by latents_std; 0 and 1 until the data's are known.
    config = dict(CONFIG, latents_mean=[0.0] * 16, latents_std=[1.0] * 16)
    return AutoencoderKLWan(**{**config, **changes})


def _norm_silu_pad(x, gamma):
    """x is [B,T,H,W,C] here: channels last in memory, so that the compiler sees plain rows."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-12) * gamma
    return F.pad(F.silu(y).to(x.dtype), (0, 0, 0, 0, 0, 0, 2, 0))


torch._dynamo.config.recompile_limit = 64  # one for each number of channels and each precision
_compiled = torch.compile(_norm_silu_pad, dynamic=True)


def norm_silu_pad(x, gamma):
    y = _compiled(x.permute(0, 2, 3, 4, 1).contiguous(), gamma.flatten())
    return y.permute(0, 4, 1, 2, 3)


def conv(m, x):
    """Causal convolution: two zero frames before the clip if the kernel is 3 long, none after it."""
    if m.kernel_size[0] == 3:
        x = F.pad(x, (0, 0, 0, 0, 2, 0))
    k = m.kernel_size[1] // 2
    return F.conv3d(x, m.weight, m.bias, padding=(0, k, k))


def activated_conv(norm, m, x):
    return F.conv3d(norm_silu_pad(x, norm.gamma), m.weight, m.bias, padding=(0, 1, 1))


def residual(m, x):
    short = x if isinstance(m.conv_shortcut, torch.nn.Identity) else conv(m.conv_shortcut, x)
    return short + activated_conv(m.norm2, m.conv2, activated_conv(m.norm1, m.conv1, x))


def frames(x):
    """[B,C,T,H,W] to [B*T,C,H,W], without a copy when channels come last in memory."""
    b, c, t, h, w = x.shape
    return x.permute(0, 2, 3, 4, 1).reshape(b * t, h, w, c).permute(0, 3, 1, 2)


def clip(x, b):
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(b, n // b, h, w, c).permute(0, 4, 1, 2, 3)


def attention(m, x):
    b = x.shape[0]
    y = frames(x)
    n, c, h, w = y.shape
    y = F.normalize(y.float(), dim=1).to(y.dtype) * c ** 0.5 * m.norm.gamma
    q, k, v = m.to_qkv(y).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
    y = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(n, c, h, w)
    return x + clip(m.proj(y), b)


def down(m, x):
    b, conv2d = x.shape[0], m.resample[1]
    x = clip(F.conv2d(F.pad(frames(x), (0, 1, 0, 1)), conv2d.weight, conv2d.bias, stride=2), b)
    if m.mode == "downsample3d" and x.shape[2] > 1:
        rest = F.conv3d(x, m.time_conv.weight, m.time_conv.bias, stride=(2, 1, 1))
        x = torch.cat([x[:, :, :1], rest], 2)
    return x


def up(m, x):
    b, c, t, h, w = x.shape
    if m.mode == "upsample3d" and t > 1:
        rest = conv(m.time_conv, x[:, :, 1:])  # the first frame is not seen by the others here
        rest = rest.reshape(b, 2, c, t - 1, h, w).permute(0, 2, 3, 1, 4, 5).reshape(b, c, 2 * (t - 1), h, w)
        x = torch.cat([x[:, :, :1], rest], 2)
    x = frames(x.contiguous(memory_format=torch.channels_last_3d))
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c)
    conv2d = m.resample[1]
    return clip(F.conv2d(x.permute(0, 3, 1, 2), conv2d.weight, conv2d.bias, padding=1), b)


def middle(m, x):
    return residual(m.resnets[1], attention(m.attentions[0], residual(m.resnets[0], x)))


def moments(vae, x):
    """Pixels in [-1,1], [B,3,1+4k,H,W], to the mean and log variance of the raw latents."""
    e = vae.encoder
    x = conv(e.conv_in, x.contiguous(memory_format=torch.channels_last_3d))
    for m in e.down_blocks:
        name = type(m).__name__
        x = down(m, x) if name == "WanResample" else attention(m, x) if name == "WanAttentionBlock" else residual(m, x)
    x = activated_conv(e.norm_out, e.conv_out, middle(e.mid_block, x))
    return conv(vae.quant_conv, x).chunk(2, 1)


def decode(vae, z):
    """Raw latents to pixels, not yet clamped."""
    d = vae.decoder
    x = middle(d.mid_block, conv(d.conv_in, conv(vae.post_quant_conv, z.contiguous(memory_format=torch.channels_last_3d))))
    for block in d.up_blocks:
        for m in block.resnets:
            x = residual(m, x)
        if block.upsamplers is not None:
            x = up(block.upsamplers[0], x)
    return activated_conv(d.norm_out, d.conv_out, x)


def load(folder):
    """The trained VAE of a folder, with the statistics of its latents if they were measured."""
    stats = folder / "latents.json"
    model = build(**(json.loads(stats.read_text()) if stats.exists() else {}))
    return load_ema(folder, model).requires_grad_(False)


def statistics(folder):
    """Mean and standard deviation of each latent channel, as they broadcast over [B,16,T,h,w]."""
    stats = json.loads((folder / "latents.json").read_text())
    return tuple(torch.tensor(stats[k]).view(-1, 1, 1, 1) for k in ("latents_mean", "latents_std"))

"""Wan transformers (diffusers' WanTransformer3DModel) with a forward made for training.

The parameters are those of the diffusers module. This forward packs q, k and v into one product, sees
each text's equal padding rows as one row with a logit bias (exact: they are the same key and value),
and keeps the residual stream in f32. test_models.py holds it against the published forward.
"""
import math

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel

CONFIG = dict(num_attention_heads=4, attention_head_dim=64, out_channels=16, text_dim=128, freq_dim=256, ffn_dim=1024,
              num_layers=6, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6)


def build(in_channels, **changes):
    return WanTransformer3DModel(in_channels=in_channels, **{**CONFIG, **changes})


def trim(text, used, length):
    """Text rows [B, n, d] of which used[i] are real, the rest zero -> rows to attend to and their
    logit bias: the real ones, and one zero row for all the padding up to length."""
    n = min(-(-int(used.max() + 1) // 16) * 16, length + 1)  # few different widths, for the compiler
    text = F.pad(text, (0, 0, 0, max(0, n - text.shape[1])))[:, :n]
    place = torch.arange(n, device=text.device)[None]
    count = (length - used)[:, None].clamp(min=1).float().log()
    bias = torch.where(place < used[:, None], 0.0, torch.where(place == used[:, None], count, -1e9))
    return text, bias


def rope_table(model, grid, device):
    shape = torch.empty(1, 1, grid[0], grid[1] * 2, grid[2] * 2, device="meta")
    cos, sin = model.rope(shape)
    return cos[0, :, 0, 0::2].float().to(device), sin[0, :, 0, 1::2].float().to(device)  # [L, head_dim/2]


def rotate(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def rms(x, weight, eps):
    y = x.float()
    return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps) * weight


def _qk(x, weight, cos, sin, eps, heads):
    return rotate(rms(x, weight, eps).unflatten(-1, (heads, -1)), cos, sin).to(x.dtype)


def _modulate(x, shift, scale, eps):
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


def _gate(x, y, gate):
    return x + y.float() * gate


def _products(q, k, v, bias):
    logits = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return (logits if bias is None else logits + bias).softmax(-1).to(v.dtype) @ v


def _gelu(x):
    return F.gelu(x, approximate="tanh")


class Step:
    """The pointwise parts, compiled or not."""

    def __init__(self, compiled):
        make = (lambda f: torch.compile(f, dynamic=True)) if compiled else (lambda f: f)
        self.qk, self.modulate, self.gate, self.rms, self.gelu = make(_qk), make(_modulate), make(_gate), make(rms), make(_gelu)
        self.products = make(_products)


EAGER = Step(False)


def attend(fn, q, k, v, bias=None):
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if q.is_cuda or q.dtype == torch.float32:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    else:  # so few keys (300): in bf16 the products written out take half the time of PyTorch's CPU kernel
        y = fn.products(q, k, v, bias)
    return y.transpose(1, 2).flatten(2)


def forward(model, x, t, text, bias, fn=EAGER):
    """x [B,C,T,H,W], t [B] in 0..1000, text and bias from trim() -> velocity [B,16,T,H,W]."""
    b, _, f, h, w = x.shape
    heads, eps = model.config.num_attention_heads, model.config.eps
    grid = (f, h // 2, w // 2)
    cos, sin = rope_table(model, grid, x.device)
    e = model.condition_embedder
    with torch.autocast(x.device.type, enabled=False):
        half = model.config.freq_dim // 2
        angle = t.double()[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=t.device, dtype=torch.float64) / half)
        temb = e.time_embedder(torch.cat((angle.cos(), angle.sin()), 1).float())
        mod = e.time_proj(F.silu(temb)).unflatten(1, (6, -1))
    text = e.text_embedder(text)
    bias = bias[:, None, None].to(text.dtype)
    p = model.patch_embedding
    x = x.unflatten(3, (-1, 2)).unflatten(5, (-1, 2)).permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)
    x = F.linear(x, p.weight.flatten(1), p.bias).float()
    for block in model.blocks:
        s1, c1, g1, s2, c2, g2 = (block.scale_shift_table + mod).chunk(6, 1)
        a = block.attn1
        y = fn.modulate(x, s1, c1, eps)
        y = F.linear(y, torch.cat((a.to_q.weight, a.to_k.weight, a.to_v.weight)), torch.cat((a.to_q.bias, a.to_k.bias, a.to_v.bias)))
        q, k, v = y.chunk(3, -1)
        q, k = fn.qk(q, a.norm_q.weight, cos, sin, eps, heads), fn.qk(k, a.norm_k.weight, cos, sin, eps, heads)
        x = fn.gate(x, a.to_out[0](attend(fn, q, k, v.unflatten(-1, (heads, -1)))), g1)
        a = block.attn2
        y = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, eps)
        q = fn.rms(a.to_q(y), a.norm_q.weight, eps)
        k, v = F.linear(text, torch.cat((a.to_k.weight, a.to_v.weight)), torch.cat((a.to_k.bias, a.to_v.bias))).chunk(2, -1)
        k = fn.rms(k, a.norm_k.weight, eps)
        q, k, v = (z.unflatten(-1, (heads, -1)).to(text.dtype) for z in (q, k, v))
        x = x + a.to_out[0](attend(fn, q, k, v, bias)).float()
        y = fn.modulate(x, s2, c2, eps)
        x = fn.gate(x, block.ffn.net[2](fn.gelu(block.ffn.net[0].proj(y))), g2)
    shift, scale = (model.scale_shift_table + temb[:, None]).chunk(2, 1)
    with torch.autocast(x.device.type, enabled=False):
        y = model.proj_out(fn.modulate(x, shift, scale, model.config.eps))
    y = y.unflatten(1, grid).unflatten(-1, (2, 2, -1))  # b f i j ph pw c
    return y.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def compiled(device):
    """forward() as it is fastest on a device: wholly compiled on a GPU; on a CPU its pointwise parts, so that the
    products stay the library's."""
    if device.type == "cuda":
        return torch.compile(forward)
    fn = Step(True)
    return lambda *arguments: forward(*arguments, fn)

"""Holds every tensor of a model folder, by name, shape and type, against the architecture that its
config files state; and the size and sanity of the whole. Plain Python, no packages.

python3 training/test_shipped.py [FOLDER ...]     (default: models/pocket and tests/vectors/random_wan)
"""
import array
import json
import sys
from pathlib import Path

LIMIT = 40_000_000


def header(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        head = json.loads(f.read(size))
        data = f.read()
    head.pop("__metadata__", None)
    return head, data


def umt5(c):
    d, inner, ff = c["d_model"], c["d_kv"] * c["num_heads"], c["d_ff"]
    out = {"shared.weight": [c["vocab_size"], d], "encoder.final_layer_norm.weight": [d]}
    for i in range(c["num_layers"]):
        a, f = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        out.update({a + f"SelfAttention.{n}.weight": [inner, d] for n in "qkv"})
        out.update({a + "SelfAttention.o.weight": [d, inner], a + "layer_norm.weight": [d], f + "layer_norm.weight": [d],
                    a + "SelfAttention.relative_attention_bias.weight": [c["relative_attention_num_buckets"], c["num_heads"]],
                    f + "DenseReluDense.wi_0.weight": [ff, d], f + "DenseReluDense.wi_1.weight": [ff, d],
                    f + "DenseReluDense.wo.weight": [d, ff]})
    return out


def wan_transformer(c):
    d, f = c["num_attention_heads"] * c["attention_head_dim"], c["ffn_dim"]
    out = {"scale_shift_table": [1, 2, d]}

    def linear(name, rows, columns):
        out[name + ".weight"], out[name + ".bias"] = [rows, columns], [rows]

    out["patch_embedding.weight"], out["patch_embedding.bias"] = [d, c["in_channels"], *c["patch_size"]], [d]
    linear("condition_embedder.time_embedder.linear_1", d, c["freq_dim"])
    linear("condition_embedder.time_embedder.linear_2", d, d)
    linear("condition_embedder.time_proj", 6 * d, d)
    linear("condition_embedder.text_embedder.linear_1", d, c["text_dim"])
    linear("condition_embedder.text_embedder.linear_2", d, d)
    linear("proj_out", c["out_channels"] * 4, d)
    for i in range(c["num_layers"]):
        b = f"blocks.{i}."
        out[b + "scale_shift_table"] = [1, 6, d]
        out[b + "norm2.weight"] = out[b + "norm2.bias"] = [d]
        for attn in ("attn1", "attn2"):
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(f"{b}{attn}.{name}", d, d)
            out[f"{b}{attn}.norm_q.weight"] = out[f"{b}{attn}.norm_k.weight"] = [d]
        linear(b + "ffn.net.0.proj", f, d)
        linear(b + "ffn.net.2", d, f)
    return out


def wan_vae(c):
    base, z, mult, blocks, down = c["base_dim"], c["z_dim"], c["dim_mult"], c["num_res_blocks"], c["temperal_downsample"]
    out = {}

    def conv(name, rows, columns, *kernel):
        out[name + ".weight"], out[name + ".bias"] = [rows, columns, *kernel], [rows]

    def residual(name, a, b):
        out[name + ".norm1.gamma"], out[name + ".norm2.gamma"] = [a, 1, 1, 1], [b, 1, 1, 1]
        conv(name + ".conv1", b, a, 3, 3, 3)
        conv(name + ".conv2", b, b, 3, 3, 3)
        if a != b:
            conv(name + ".conv_shortcut", b, a, 1, 1, 1)

    def middle(name, a):
        residual(name + ".resnets.0", a, a)
        residual(name + ".resnets.1", a, a)
        out[name + ".attentions.0.norm.gamma"] = [a, 1, 1]
        conv(name + ".attentions.0.to_qkv", 3 * a, a, 1, 1)
        conv(name + ".attentions.0.proj", a, a, 1, 1)

    def ends(name, first, inside, outside, last):
        conv(name + ".conv_in", inside, first, 3, 3, 3)
        out[name + ".norm_out.gamma"] = [outside, 1, 1, 1]
        conv(name + ".conv_out", last, outside, 3, 3, 3)

    dims, n, last = [base * m for m in [1] + mult], 0, len(mult) - 1
    ends("encoder", 3, dims[0], dims[-1], 2 * z)
    for i in range(len(mult)):
        a, b = dims[i], dims[i + 1]
        for _ in range(blocks):
            residual(f"encoder.down_blocks.{n}", a, b)
            a, n = b, n + 1
        if i != last:
            conv(f"encoder.down_blocks.{n}.resample.1", b, b, 3, 3)
            if down[i]:
                conv(f"encoder.down_blocks.{n}.time_conv", b, b, 3, 1, 1)
            n += 1
    middle("encoder.mid_block", dims[-1])
    conv("quant_conv", 2 * z, 2 * z, 1, 1, 1)
    conv("post_quant_conv", z, z, 1, 1, 1)
    dims, up = [base * m for m in [mult[-1]] + mult[::-1]], down[::-1]
    ends("decoder", z, dims[0], dims[-1], 3)
    middle("decoder.mid_block", dims[0])
    for i in range(len(mult)):
        a, b = dims[i] // (2 if i else 1), dims[i + 1]
        for j in range(blocks + 1):
            residual(f"decoder.up_blocks.{i}.resnets.{j}", a, b)
            a = b
        if i != last:
            conv(f"decoder.up_blocks.{i}.upsamplers.0.resample.1", b // 2, b, 3, 3)
            if up[i]:
                conv(f"decoder.up_blocks.{i}.upsamplers.0.time_conv", 2 * b, b, 3, 1, 1)
    return out


def check(folder):
    index = json.loads((folder / "model_index.json").read_text())
    parts = {"text_encoder": ("model.safetensors", umt5), "vae": ("diffusion_pytorch_model.safetensors", wan_vae),
             "keyframe": ("diffusion_pytorch_model.safetensors", wan_transformer), "window": ("diffusion_pytorch_model.safetensors", wan_transformer)}
    count = 0
    for part, (name, architecture) in parts.items():
        assert part in index, f"{folder}: model_index.json does not list {part}"
        config = json.loads((folder / part / "config.json").read_text())
        expected, (head, data) = architecture(config), header(folder / part / name)
        assert not expected.keys() ^ head.keys(), f"{folder}/{part}: missing or unknown {sorted(expected.keys() ^ head.keys())}"
        for k, shape in expected.items():
            t = head[k]
            assert t["shape"] == shape, f"{folder}/{part}: {k} is {t['shape']}, should be {shape}"
            assert t["dtype"] == "BF16", f"{folder}/{part}: {k} is {t['dtype']}"
            values = array.array("H", data[slice(*t["data_offsets"])])
            assert all(v & 0x7F80 != 0x7F80 for v in values), f"{folder}/{part}: {k} has an infinity or NaN"
            count += 1
    for part, key, width in (("keyframe", "in_channels", 16), ("window", "in_channels", 36)):
        assert json.loads((folder / part / "config.json").read_text())[key] == width
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.suffix in (".safetensors", ".model"))
    assert size <= LIMIT, f"{folder}: {size} bytes, more than {LIMIT}"
    print(f"{folder}: {count} tensors as the architecture has them, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    named = [Path(a) for a in sys.argv[1:]]
    for folder in named or [f for f in (root / "models/pocket", root / "tests/vectors/random_wan") if (f / "model_index.json").exists()]:
        check(folder)

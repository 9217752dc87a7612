"""Names and shapes of the published Wan2.1-T2V-1.3B, from the published classes (no weights):
python3 shape_vectors.py OUT.txt      (diffusers 0.42.1, transformers 5.23.0)

A line a tensor: folder, name, dimensions.

    python3 shape_vectors.py OUT.txt FOLDER      (the folder of the original vae2_2.py)

Of the published Wan2.2 VAE instead: those of both layouts.
"""
import sys

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel


def wan22(folder):
    sys.path.insert(0, folder)
    import vae2_2

    wide = dict(z_dim=48, temperal_downsample=[False, True, True])
    patched = dict(patch_size=2, in_channels=12, out_channels=12, scale_factor_spatial=16)
    return {
        "vae": AutoencoderKLWan(base_dim=160, decoder_base_dim=256, is_residual=True, **patched, **wide),
        "original": vae2_2.WanVAE_(dim=160, dec_dim=256, **wide),
    }


with torch.device("meta"):
    modules = wan22(sys.argv[2]) if len(sys.argv) > 2 else {
        "transformer": WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, text_dim=4096, ffn_dim=8960, num_layers=30),
        "vae": AutoencoderKLWan(),
        "text_encoder": UMT5EncoderModel(UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")),
    }
with open(sys.argv[1], "w") as out:
    for folder, module in modules.items():
        for name, tensor in module.state_dict().items():
            print(folder, name, *tensor.shape, file=out)

"""Training folders from a released model, to go on from it: python3 restore.py RUN [--model ../models/pocket].

Makes RUN/text, RUN/vae, RUN/keyframe and RUN/window as if they had been trained to the released weights
just now. Optimizer states are not released; they build up again within a hundred steps.
"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

import train_text
import transformer as dit
import vae as wan


def released(folder, name):
    return {k: v.float() for k, v in load_file(folder / name).items()}


def put(folder, module, weights):
    module.load_state_dict(weights)
    folder.mkdir(parents=True, exist_ok=True)
    state = module.state_dict()
    torch.save(dict(model=state, ema=state, step=0, seconds=0.0), folder / "checkpoint.pt")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path)
    p.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "models" / "pocket")
    a = p.parse_args()
    (a.run / "text").mkdir(parents=True, exist_ok=True)
    shutil.copy(a.model / "tokenizer" / "spiece.model", a.run / "text")
    reader = train_text.Reader(train_text.tokenizer(a.run / "text").get_piece_size())
    text = released(a.model / "text_encoder", "model.safetensors")
    text["encoder.embed_tokens.weight"] = text["shared.weight"]
    # The heads that it was trained with are not released: what goes on from here is the encoder, as it is.
    put(a.run / "text", reader, {**reader.state_dict(), **{"encoder." + k: v for k, v in text.items()}})
    weights = "diffusion_pytorch_model.safetensors"
    put(a.run / "vae", wan.build(), released(a.model / "vae", weights))
    config = json.loads((a.model / "vae" / "config.json").read_text())
    (a.run / "vae" / "latents.json").write_text(json.dumps({k: config[k] for k in ("latents_mean", "latents_std")}))
    for kind, channels in (("keyframe", 16), ("window", 36)):
        put(a.run / kind, dit.build(channels), released(a.model / kind, weights))


if __name__ == "__main__":
    main()

"""The text encoder: umT5, ids to rows."""
import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

from common import generator, narrow, randomise, save_case

VOCABULARY = 200


@torch.no_grad()
def make(out, shapes):
    folder = out / "umt5"
    config = UMT5Config(vocab_size=VOCABULARY, d_model=shapes.text_dim, d_kv=12, num_heads=3, d_ff=2 * shapes.text_dim + 6,
                        num_layers=shapes.layers, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
                        tie_word_embeddings=False)
    torch.manual_seed(shapes.seed)
    model = UMT5EncoderModel(config)
    for block in model.encoder.block:
        block.layer[0].SelfAttention.relative_attention_bias.weight.normal_(generator=generator(shapes, 1))
    randomise(model, shapes, 2)
    narrow(model).save_pretrained(folder)
    g = generator(shapes, 3)
    for name, count in (("short", 1), ("usual", 19), ("long", 151)):  # past the longest distance of its own, 128
        ids = torch.randint(4, VOCABULARY, (count,), generator=g)
        ids[-1] = 1
        rows = model(input_ids=ids[None]).last_hidden_state[0]
        save_case(folder, "text", name, {"ids": ids.to(torch.int32), "rows": rows})

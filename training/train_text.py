"""The text encoder: a SentencePiece vocabulary and a small umT5 that is trained to tell a caption's
attributes, then frozen. python3 train_text.py FOLDER [--steps N]

Every row of its output is made useful: attention-pooled heads read the attributes off the rows, and
words that carry no attribute, unknown words and misspellings are mixed in so that rows stay sane.
"""
import argparse
import json
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from captions import joined, motion_caption, pick, scene_caption
from checkpoint import Ema, log_line, resume, save
from optim import Muon
from world import ATTRIBUTES, draw_attributes

LENGTH = 64
SCENE = [k for k in ATTRIBUTES if k != "motion"]
FILLER = ("very quiet peaceful calm little slowly drifting gentle wide high old some with and the of in is an it there then while near by far soft light "
          "nice detailed colourful animated cartoon style scene picture happy summer people wind warm cold fresh large huge style flat vector cinematic").split()


def tokenizer(folder):
    """Trains the vocabulary once; ids as in umT5: pad 0, </s> 1, <s> 2, <unk> 3."""
    path = folder / "spiece.model"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(5)
        lines = []
        for _ in range(60000):
            s = draw_attributes(rng)
            lines += [scene_caption(s, rng)[0], motion_caption(s, rng)]
            if rng.random() < 0.3:  # so that letters and common syllables have pieces of their own
                lines.append(" ".join(noise_word(rng) for _ in range(4)))
        (folder / "captions.txt").write_text("\n".join(lines))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "captions.txt"), model_prefix=str(folder / "spiece"), vocab_size=640, model_type="unigram",
            pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="</s>", bos_piece="<s>", unk_piece="<unk>",
            normalization_rule_name="nmt_nfkc_cf", character_coverage=1.0, num_threads=1, minloglevel=1)
        (folder / "captions.txt").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def encode_ids(pieces, text):
    return pieces.encode(text)[:LENGTH - 1] + [1]


def padded(pieces, texts):
    """Token ids and mask, padded to the longest."""
    rows = [encode_ids(pieces, t) for t in texts]
    n = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), n, dtype=torch.long), torch.zeros(len(rows), n)
    for i, r in enumerate(rows):
        ids[i, :len(r)], mask[i, :len(r)] = torch.tensor(r), 1
    return ids, mask


def build(vocab):
    return UMT5EncoderModel(UMT5Config(
        vocab_size=vocab, d_model=128, d_kv=32, num_heads=4, d_ff=256, num_layers=3, relative_attention_num_buckets=32,
        relative_attention_max_distance=128, feed_forward_proj="gated-gelu", dropout_rate=0.0, layer_norm_epsilon=1e-6,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=False))


@torch.no_grad()
def rows(encoder, pieces, texts):
    """What a transformer is given: [N, 64, 128], zero after </s>."""
    ids, mask = padded(pieces, texts)
    out = encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    return F.pad(out, (0, 0, 0, LENGTH - out.shape[1]))


class Reader(nn.Module):
    """The encoder, and for every attribute one attention-pooled head."""

    def __init__(self, vocab):
        super().__init__()
        self.encoder = build(vocab)
        self.query = nn.Parameter(torch.randn(len(ATTRIBUTES), 128) * 0.1)
        self.heads = nn.ModuleDict({k: nn.Linear(128, len(v)) for k, v in ATTRIBUTES.items()})

    def forward(self, ids, mask):
        h = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        score = torch.einsum("bnd,ad->ban", h, self.query).masked_fill(mask[:, None] == 0, -1e9)
        pooled = torch.einsum("ban,bnd->bad", score.softmax(-1), h)
        return {k: self.heads[k](pooled[:, i]) for i, k in enumerate(ATTRIBUTES)}


def noise_word(rng):
    return "".join(pick(rng, "abcdefghijklmnopqrstuvwxyz") for _ in range(rng.integers(3, 9)))


def roughen(text, rng):
    words = text.split(" ")
    if rng.random() < 0.35:
        for _ in range(rng.integers(1, 4)):
            words.insert(int(rng.integers(len(words) + 1)), pick(rng, FILLER) if rng.random() < 0.6 else noise_word(rng))
    if rng.random() < 0.06:  # a slip of the finger
        i = int(rng.integers(len(words)))
        if len(words[i]) > 4:
            j = int(rng.integers(1, len(words[i]) - 1))
            words[i] = words[i][:j] + words[i][j + 1:]
    return " ".join(words)


def sample(rng, rough=True):
    scene = draw_attributes(rng, held=rng.random() < 0.1)
    text, unsaid = scene_caption(scene, rng, 0.04)
    motion = motion_caption(scene, rng)
    told = {k: ATTRIBUTES[k].index(scene[k]) for k in ATTRIBUTES}
    for k in unsaid:
        told[k] = -100
    u = rng.random()
    if u < 0.35:
        told["motion"] = -100
    elif u < 0.8:
        text = joined(text, motion)
    else:
        text = motion
        told.update({k: -100 for k in SCENE})
    return roughen(text, rng) if rough else text, told


def accuracy(model, pieces, rng, count=3000):
    right, all_ = dict.fromkeys(ATTRIBUTES, 0), dict.fromkeys(ATTRIBUTES, 0)
    model.eval()
    for _ in range(count // 250):
        texts, told = zip(*[sample(rng, rough=False) for _ in range(250)])
        with torch.no_grad():
            logits = model(*padded(pieces, texts))
        for k in ATTRIBUTES:
            t = torch.tensor([x[k] for x in told])
            right[k] += ((logits[k].argmax(-1) == t) & (t >= 0)).sum().item()
            all_[k] += (t >= 0).sum().item()
    model.train()
    return {k: round(right[k] / all_[k], 4) for k in ATTRIBUTES}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("folder", type=Path)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--log", type=Path)
    a = p.parse_args()
    torch.manual_seed(3)
    pieces = tokenizer(a.folder)
    model = Reader(pieces.get_piece_size())
    opt, ema = Muon(model.parameters(), 2e-3, matrix=lambda q: q.ndim == 2 and q.shape[0] >= 32 and q.shape[0] < 600), Ema(model, 0.995)
    step, seconds = resume(a.folder, model, opt, ema)
    started = saved = time.time()
    sums = []
    while step < a.steps:
        rng = np.random.default_rng((11, step))
        texts, told = zip(*[sample(rng) for _ in range(128)])
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, (step + 1) / 100) * min(1, (a.steps - step) / (0.4 * a.steps))
        logits = model(*padded(pieces, texts))
        loss = sum(F.cross_entropy(logits[k], torch.tensor([t[k] for t in told])) for k in ATTRIBUTES)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)
        sums.append(loss.item())
        if step % 100 == 0:
            line = dict(step=step, seconds=round(seconds + time.time() - started), loss=round(float(np.mean(sums)), 4))
            sums = []
            print(line, flush=True)
            if a.log:
                log_line(a.log, line)
        if time.time() - saved > 120 or step == a.steps:
            save(a.folder, model, opt, ema, step, seconds + time.time() - started)
            saved = time.time()
    ema.load_into(model)
    print(json.dumps(accuracy(model, pieces, np.random.default_rng(77))))


def load(folder):
    """The frozen encoder (no heads) and its tokenizer."""
    pieces = tokenizer(folder)
    model = Reader(pieces.get_piece_size())
    model.load_state_dict(torch.load(folder / "checkpoint.pt", map_location="cpu")["ema"])
    return model.encoder.eval().requires_grad_(False), pieces


if __name__ == "__main__":
    main()

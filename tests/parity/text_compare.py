"""The text path beside the reference: cleaning by diffusers' prompt_clean, ids by AutoTokenizer (tokenizer.json) and
sentencepiece (spiece.model). See text.sh.

    text_compare.py compare --probe build/tests/worker/model/text_probe --work DIR --seed N --count N
    text_compare.py golden --work DIR         writes tests/worker/model/vectors/text.json and text_tokenizer.json
"""
import argparse
import ast
import importlib.util
import json
import pathlib
import subprocess
import sys
import unicodedata

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from text_corpus import Corpus

VECTORS = pathlib.Path(__file__).parent.parent / "worker/model/vectors"
SPIECE = pathlib.Path(__file__).parent.parent / "vectors/random_wan/tokenizer/spiece.model"
GOLDEN_TEXTS, GOLDEN_LETTERS = 5000, 40


def reference_clean():
    """prompt_clean of the installed diffusers, without what else its file imports (torch)."""
    import html

    import ftfy
    import regex

    path = pathlib.Path(importlib.util.find_spec("diffusers").origin).parent / "pipelines/wan/pipeline_wan.py"
    names = {"basic_clean", "whitespace_clean", "prompt_clean"}
    body = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name in names]
    scope = {"ftfy": ftfy, "html": html, "re": regex, "is_ftfy_available": lambda: True}
    exec(compile(ast.Module(body, []), str(path), "exec"), scope)
    return scope["prompt_clean"]


def train(work, name, seed, pieces, byte_fallback, **more):
    """A SentencePiece model with umT5's ids, of texts of the corpus."""
    corpus = Corpus(seed)
    lines = [corpus.words(12) for _ in range(3000)] + corpus.texts(5000)
    (work / f"{name}.txt").write_text("\n".join(" ".join(line.split()) for line in lines))
    sentencepiece.SentencePieceTrainer.train(
        input=work / f"{name}.txt", model_prefix=work / name, vocab_size=pieces, model_type="unigram", byte_fallback=byte_fallback, pad_id=0, eos_id=1,
        bos_id=2, unk_id=3, character_coverage=0.985, num_threads=1, minloglevel=2, hard_vocab_limit=False, **more)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((work / f"{name}.model").read_bytes())
    return model


def convert(model, byte_fallback=False, split=False, collapse="space", strip=False, scheme="always"):
    """The tokenizer.json that transformers' converters make of a SentencePiece model, in all their versions."""
    tokenizer = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], unk_id=3, byte_fallback=byte_fallback))
    steps = [normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)]
    if collapse == "space":
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    elif collapse == "mark":
        steps += [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if split else metaspace
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("</s>", "<unk>", "<pad>")])
    tokenizer.add_special_tokens([AddedToken(f"<extra_id_{i}>", normalized=False, special=True, lstrip=strip, rstrip=strip, single_word=strip and i == 5)
                                  for i in reversed(range(300))])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
    return tokenizer


def write_folder(folder, tokenizer):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "umt5"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 512}))


def spiece_ids(library, text):
    """SentencePiece's ids; None where two paths are equally good: it sums in f32, and its versions differ there."""
    best = library.NBestEncode(text, nbest_size=2, return_type="proto").nbests if text else []
    tie = len(best) > 1 and abs(best[0].score - best[1].score) < 1e-3
    return None if tie else library.encode(text) + [1]


def probe(program, tokenizer, texts):
    """(cleaned text, ids) of each, by vidloom."""
    out = subprocess.run([program, *tokenizer], input="".join(t.encode().hex() + "\n" for t in texts), capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        clean, _, ids = line.partition(" ")
        yield (line, []) if clean == "error" else (bytes.fromhex(clean).decode(), [int(i) for i in ids.split(",")] if ids else [])


def report(name, texts, got, expected):
    rows = [row for row in zip(texts, got, expected, strict=True) if row[2] is not None]
    wrong = [(t, g, e) for t, g, e in rows if g != e]
    for text, ours, theirs in wrong[:3]:
        print(f"  {text!a}\n    vidloom   {ours!a}\n    reference {theirs!a}")
    ties = f" ({len(texts) - len(rows)} ties left out)" if len(rows) < len(texts) else ""
    print(f"{name:56} {len(rows):7} texts {len(wrong):6} differ   {'FAILED' if wrong else 'ok'}{ties}")
    return not wrong


def compare(a):
    from transformers import AutoTokenizer

    texts = Corpus(a.seed).texts(a.count)
    cleaned = [reference_clean()(t) for t in texts]
    good = report("cleaning: prompt_clean", texts, [c for c, _ in probe(a.probe, [], texts)], cleaned)
    for pieces, byte_fallback in [(1500, True), (4000, False), (6000, True)]:
        model = train(a.work, f"model{pieces}", a.seed, pieces, byte_fallback)
        path = a.work / f"model{pieces}.model"
        library = sentencepiece.SentencePieceProcessor(model_file=str(path))
        good &= report(f"spiece.model, {pieces} pieces", texts, [i for _, i in probe(a.probe, [path], texts)], [spiece_ids(library, c) for c in cleaned])
        for options in [{"byte_fallback": byte_fallback}, {"split": True, "collapse": "", "strip": True}, {"collapse": "mark", "byte_fallback": byte_fallback},
                        {"scheme": "first", "strip": True}]:
            folder = a.work / "folder"
            write_folder(folder, convert(model, **options))
            library_json = AutoTokenizer.from_pretrained(folder)
            good &= report(f"tokenizer.json, {pieces} pieces {','.join(options)}", texts,
                           [i for _, i in probe(a.probe, [folder / 'tokenizer.json'], texts)], library_json(cleaned).input_ids)
    return 0 if good else 1


def fnv(ids):
    if ids is None:
        return ""
    value = 0xcbf29ce484222325
    for byte in ",".join(map(str, ids)).encode():
        value = (value ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return f"{value:016x}"


def golden(a):
    """Short texts, and a tokenizer whose character map has what these texts need."""
    seen, texts = set(), []
    for text in Corpus(20261125).texts(4 * GOLDEN_TEXTS):
        text = text[:GOLDEN_LETTERS]
        if text not in seen and len(texts) < GOLDEN_TEXTS + 200:
            seen.add(text)
            texts.append(text)
    clean = reference_clean()
    cleaned = [clean(t) for t in texts]
    rules = {c: unicodedata.normalize("NFKC", c) for t in cleaned for c in t} | {"\u200b": " ", "\ufeff": "", "\u3000": " "}
    lines = ["\t".join(" ".join(f"{ord(x):X}" for x in s) for s in rule) for rule in sorted(rules.items()) if rule[0] != rule[1]]
    (a.work / "rules.tsv").write_text("\n".join(lines) + "\n")
    model = train(a.work, "golden", 20261125, 1500, True, normalization_rule_tsv=a.work / "rules.tsv")
    plain = convert(model)
    in_bytes = convert(model, byte_fallback=True)
    spiece = sentencepiece.SentencePieceProcessor(model_file=str(SPIECE))
    rows = [[t, "=" if t == c else c, fnv(plain.encode(c).ids), fnv(in_bytes.encode(c).ids), fnv(spiece_ids(spiece, c))] for t, c in zip(texts, cleaned)]
    (VECTORS / "text_tokenizer.json").write_text(json.dumps(json.loads(plain.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    (VECTORS / "text.json").write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in rows) + "\n]\n")
    scripts = {unicodedata.name(c, "?").split()[0] for t in texts for c in t if c.isalpha()}
    print(len(rows), "texts,", len(scripts), "scripts:", " ".join(sorted(scripts)))
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["compare", "golden"])
    parser.add_argument("--probe")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5000)
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    return compare(a) if a.what == "compare" else golden(a)


if __name__ == "__main__":
    sys.exit(main())

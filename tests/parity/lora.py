"""LoRA files of every key pattern that trainers write, read by diffusers and peft where they know it.

The files are in loras/ beside the model; a case of the transformer's names those that it is of.
"""
import torch
from safetensors.torch import save_file

from common import generator, save_case
from models import shapes_of
from transformer import one

RANK = 4
BLOCK = {"self_attn.q": "attn1.to_q", "self_attn.k": "attn1.to_k", "self_attn.v": "attn1.to_v",
         "self_attn.o": "attn1.to_out.0", "cross_attn.q": "attn2.to_q", "cross_attn.k": "attn2.to_k",
         "cross_attn.v": "attn2.to_v", "cross_attn.o": "attn2.to_out.0", "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2"}
IMAGE_BLOCK = {"cross_attn.k_img": "attn2.add_k_proj", "cross_attn.v_img": "attn2.add_v_proj"}
ENDS = {"time_projection.1": "condition_embedder.time_proj", "head.head": "proj_out",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2"}
IMAGE_ENDS = {"img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
              "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2"}


def modules(model, ends):
    """Name in the original layout -> (name in diffusers', the layer)."""
    block = {**BLOCK, **(IMAGE_BLOCK if model.config.image_dim else {})}
    names = {f"blocks.{i}.{a}": f"blocks.{i}.{b}" for i in range(model.config.num_layers) for a, b in block.items()}
    if ends:
        names |= {**ENDS, **(IMAGE_ENDS if model.config.image_dim else {})}
    return {a: (b, model.get_submodule(b)) for a, b in names.items()}


def factors(model, g, ends=False):
    """Original name -> (diffusers name, down, up, difference of the bias), of numbers that bfloat16 has."""
    draw = lambda rows, columns, size: (torch.randn(rows, columns, generator=g) * size).bfloat16().float()
    return {a: (b, draw(RANK, layer.in_features, layer.in_features ** -0.5), draw(layer.out_features, RANK, 0.4),
                draw(1, layer.out_features, 0.2)[0]) for a, (b, layer) in modules(model, ends).items()}


def write(folder, name, tensors, dtype=torch.bfloat16):
    (folder / "loras").mkdir(exist_ok=True)
    path = folder / "loras" / f"{name}.safetensors"
    save_file({key: value.to(dtype).contiguous() for key, value in tensors.items()}, path)
    path.chmod(0o644)
    return path


def spelt(lora, form, down, up, alpha=None):
    out = {}
    for original, (diffusers, a, b, _) in lora.items():
        base = form(original, diffusers)
        out |= {f"{base}.{down}": a, f"{base}.{up}": b}
        if alpha:
            out[f"{base}.alpha"] = torch.tensor(float(alpha))
    return out


class Writer:
    """Cases of one model, all of one input."""

    def __init__(self, out, shapes, kind, pipeline):
        self.folder, self.shapes, self.kind, self.pipeline = out / kind.name, shapes_of(kind, shapes), kind, pipeline
        self.seeded = shapes

    def velocity(self, low=False):
        model = self.pipeline.transformer_2 if low else self.pipeline.transformer
        return one(model, self.kind, self.shapes, generator(self.seeded, 400), 640.0, 30, frames=2)

    def case(self, name, case, files, strengths, low=False):
        text = "".join(f"{path.name}\0" for path in files).encode()
        save_case(self.folder, "transformer", f"lora-{name}", {
            **case, "expert": torch.tensor([low], dtype=torch.int32), "lora_strengths": torch.tensor(strengths),
            "lora_files": torch.tensor(list(text), dtype=torch.uint8)})

    def load(self, paths, strengths, low=False, **options):
        names = [f"lora{i}" for i in range(len(paths))]
        for name, path in zip(names, paths):
            self.pipeline.load_lora_weights(str(path), adapter_name=name, **options)
        self.pipeline.set_adapters(names, strengths)
        case = self.velocity(low)
        self.pipeline.unload_lora_weights()
        return case

    def read_by_diffusers(self, name, tensors, strength=0.8, **how):
        path = write(self.folder, name, tensors, **how)
        case = self.load([path], [strength])
        self.case(name, case, [path], [strength])
        return path, case


def differences(writer, g):
    """As they are named: of weights, of norms too, of biases, of modulations."""
    model, strength, tensors = writer.pipeline.transformer, 0.5, {}
    named = {"blocks.0.self_attn.q.diff": "blocks.0.attn1.to_q.weight", "blocks.1.ffn.2.diff_b": "blocks.1.ffn.net.2.bias",
             "blocks.0.norm3.diff": "blocks.0.norm2.weight", "blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
             "blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight", "blocks.1.diff_m": "blocks.1.scale_shift_table",
             "head.diff_m": "scale_shift_table", "patch_embedding.diff_b": "patch_embedding.bias"}
    before = {}
    for key, target in named.items():
        parameter = model.get_parameter(target)
        before[target] = parameter.clone()
        tensors[f"diffusion_model.{key}"] = (torch.randn(parameter.shape, generator=g) * 0.2).bfloat16().float()
        parameter.add_(strength * tensors[f"diffusion_model.{key}"])
    path = write(writer.folder, "differences", tensors)
    writer.case("differences", writer.velocity(), [path], [strength])
    for target, value in before.items():
        model.get_parameter(target).copy_(value)


def patterns(writer, g):
    original, diffusers = lambda a, b: a, lambda a, b: b
    after = lambda prefix, form: lambda a, b: prefix + form(a, b)
    model = writer.pipeline.transformer
    lora = factors(model, g)
    first, case = writer.read_by_diffusers(
        "diffusers", spelt(lora, after("transformer.", diffusers), "lora_A.weight", "lora_B.weight"))
    # The same numbers under names that diffusers' loader has not.
    for name, prefix, form, down, up in (
            ("default", "base_model.model.", original, "lora_A.default.weight", "lora_B.default.weight"),
            ("dots", "model.", original, "lora.down.weight", "lora.up.weight"),
            ("unet", "unet.", diffusers, "lora_down.weight", "lora_up.weight"),
            ("bare", "", original, "lora_A", "lora_B")):
        writer.case(name, case, [write(writer.folder, name, spelt(lora, after(prefix, form), down, up))], [0.8])
    lora = factors(model, g, ends=True)
    tensors = spelt(lora, after("diffusion_model.", original), "lora_A.weight", "lora_B.weight")
    writer.read_by_diffusers("original", tensors | {f"diffusion_model.{a}.diff_b": bias for a, (_, _, _, bias) in lora.items()})
    # In f32, since diffusers scales in the file's own type.
    second, _ = writer.read_by_diffusers("alpha", spelt(
        factors(model, g), after("diffusion_model.", original), "lora_down.weight", "lora_up.weight", alpha=3),
        dtype=torch.float32)
    writer.read_by_diffusers("underscores", spelt(
        factors(model, g), lambda a, b: "lora_unet_" + a.replace(".", "_"), "lora_down.weight", "lora_up.weight", alpha=1))
    writer.case("two", writer.load([first, second], [0.7, -0.4]), [first, second], [0.7, -0.4])
    differences(writer, g)


def experts(writer, g):
    """A pair: each is for the expert that its name says."""
    files = []
    for low, model in ((False, writer.pipeline.transformer), (True, writer.pipeline.transformer_2)):
        lora = spelt(factors(model, g), lambda a, b: f"diffusion_model.{a}", "lora_down.weight", "lora_up.weight", alpha=4)
        files.append(write(writer.folder, f"pair_{'low' if low else 'high'}_noise", lora))
    for low in (False, True):
        case = writer.load([files[low]], [1.0], low, load_into_transformer_2=low)
        writer.case("low" if low else "high", case, files, [1.0, 1.0], low)


@torch.no_grad()
def make(out, shapes, kind, pipeline):
    g = generator(shapes, 410)
    writer = Writer(out, shapes, kind, pipeline)
    if kind.name == "t2v":
        patterns(writer, g)
    if kind.name == "t2v-a14b":
        experts(writer, g)
    if kind.name == "i2v":
        lora = factors(pipeline.transformer, g, ends=True)
        writer.read_by_diffusers("image", spelt(lora, lambda a, b: f"diffusion_model.{a}", "lora_A.weight", "lora_B.weight"))

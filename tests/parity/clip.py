"""The image encoder: what diffusers' Wan pipeline makes of a picture, preprocessing included."""
import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from common import generator, narrow, randomise, save_case


def encoder(shapes):
    torch.manual_seed(shapes.seed + 50)
    config = CLIPVisionConfig(hidden_size=shapes.clip_dim, intermediate_size=2 * shapes.clip_dim + 8,
                              num_attention_heads=2, num_hidden_layers=shapes.layers + 1, image_size=shapes.clip_size,
                              patch_size=14, hidden_act="gelu", projection_dim=shapes.clip_dim)
    model = CLIPVisionModel(config)
    for layer in model.encoder.layers:  # they start so small that the layers would hardly show
        for parameter in layer.parameters():
            if parameter.ndim == 2:
                parameter.data.mul_(3)
    return randomise(model, shapes, 51)


def processor(shapes):
    return CLIPImageProcessorPil(size={"shortest_edge": shapes.clip_size},
                                 crop_size={"height": shapes.clip_size, "width": shapes.clip_size})


def picture(shapes, salt, width, height):
    """Smooth colour with an edge and some grain."""
    g = generator(shapes, salt)
    coarse = torch.rand(1, 3, 5, 6, generator=g)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    smooth[:, height // 3:, : width // 3] += 0.3
    grain = torch.randn(smooth.shape, generator=g) * 0.05
    return ((smooth + grain).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


@torch.no_grad()
def make(out, shapes):
    folder = out / "clip"
    model, prepare = encoder(shapes), processor(shapes)
    narrow(model).save_pretrained(folder)
    sizes = {"wide": (shapes.width, shapes.height), "tall": (shapes.clip_size - 10, 3 * shapes.clip_size + 5),
             "large": (4 * shapes.clip_size + 3, 2 * shapes.clip_size + 1)}
    for salt, (name, (width, height)) in enumerate(sizes.items()):
        rgb = picture(shapes, 60 + salt, width, height)
        pixels = prepare(images=Image.fromarray(rgb.numpy()), return_tensors="pt")["pixel_values"]
        fit = prepare(images=Image.fromarray(rgb.numpy()), do_rescale=False, do_normalize=False, return_tensors="pt")
        rows = model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][0]
        fit = torch.from_numpy(np.asarray(fit["pixel_values"][0])).permute(1, 2, 0).to(torch.uint8)
        save_case(folder, "clip", name, {"rgb": rgb, "fit": fit, "rows": rows})

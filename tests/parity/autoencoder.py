"""The autoencoders within a model: decode and encode. vae.py has them by themselves, and their weights."""
import torch

from common import generator, narrow, save_case


def statistics(vae):
    return (torch.tensor(v).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))


def error_of(got, expected):
    """Of the reference itself in bfloat16: random weights amplify rounding more than trained ones do."""
    return ((got - expected).norm() / expected.norm()).view(1)


@torch.no_grad()
def make(out, shapes, folder, vae, stride):
    """Normalised latents to pixels, and pixels to normalised latents, of shapes' size and frames."""
    g = generator(shapes, 400)
    mean, std = statistics(vae)
    z = torch.randn(vae.config.z_dim, shapes.latent_frames, shapes.height // stride, shapes.width // stride, generator=g)
    pixels = vae.decode((z * std + mean)[None], return_dict=False)[0][0]
    low = narrow(vae)
    own = low.decode((z * std + mean)[None].bfloat16(), return_dict=False)[0][0].float()
    save_case(out / folder, "decode", "usual", {"latents": z, "pixels": pixels, "bfloat16": error_of(own, pixels)})
    pixels = torch.rand(3, shapes.frames, shapes.height, shapes.width, generator=g) * 2 - 1
    pixels = torch.nn.functional.avg_pool3d(pixels[None], (1, 5, 5), 1, (0, 2, 2))[0].mul(3).clamp(-1, 1)
    latents = (vae.encode(pixels[None]).latent_dist.mean[0] - mean) / std
    own = (low.encode(pixels[None].bfloat16()).latent_dist.mean[0].float() - mean) / std
    save_case(out / folder, "encode", "usual", {"pixels": pixels, "latents": latents, "bfloat16": error_of(own, latents)})

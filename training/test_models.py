"""The forwards made for training against the published ones (diffusers), in f32. Needs PyTorch."""
import torch

import transformer as dit
import vae as wan


def test_vae():
    torch.manual_seed(0)
    for changes in ({}, dict(base_dim=8, dim_mult=[1, 2, 4, 4], num_res_blocks=2)):
        model = wan.build(**changes).eval()
        for p in model.parameters():
            if p.ndim in (1, 4):
                p.data.add_(0.1 * torch.randn_like(p))
        with torch.no_grad():
            for frames in (1, 5, 9):
                x = torch.randn(1, 3, frames, 24, 40)
                assert torch.allclose(torch.cat(wan.moments(model, x), 1), model.encode(x).latent_dist.parameters, atol=1e-4)
                z = torch.randn(2, 16, 1 + frames // 4, 3, 5)
                assert torch.allclose(wan.decode(model, z).clamp(-1, 1), model.decode(z).sample, atol=1e-4)


def test_causal():
    """The first latents do not see later frames: a tail encoded on its own is the clip's beginning."""
    model, x = wan.build().eval(), torch.randn(1, 3, 17, 32, 32)
    with torch.no_grad():
        whole, tail = wan.moments(model, x)[0], wan.moments(model, x[:, :, :5])[0]
    assert torch.allclose(whole[:, :, :2], tail, atol=1e-5)


def test_transformer():
    torch.manual_seed(0)
    for channels, frames in ((16, 1), (36, 3)):
        model = dit.build(channels).eval()
        for p in model.parameters():
            if p.ndim == 1:
                p.data.add_(0.1 * torch.randn_like(p))
        x, t, used = torch.randn(2, channels, frames, 12, 20), torch.tensor([937.5, 30.0]), torch.tensor([1, 9])
        text = torch.randn(2, 64, 128) * (torch.arange(64)[None, :, None] < used[:, None, None])
        with torch.no_grad():
            want = model(x, t, text, return_dict=False)[0]
            for fn in (dit.EAGER, dit.Step(True)):
                assert torch.allclose(dit.forward(model, x, t, *dit.trim(text, used, 64), fn), want, atol=2e-5)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "ok")

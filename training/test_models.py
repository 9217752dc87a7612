"""The forwards made for training against the published ones (diffusers), in f32; what is kept for training. Needs PyTorch."""
import tempfile
import types
from pathlib import Path

import numpy as np
import torch

import latents as store
import rollouts
import transformer as dit
import vae as wan
from world import FRAMES


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


def test_attention_written_out():
    """As CPUs with bf16 take it, beside PyTorch's own."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 30, 64), torch.randn(2, 4, 11, 64), torch.randn(2, 4, 11, 64)
    bias = torch.zeros(2, 1, 1, 11).masked_fill(torch.arange(11) > 8, -1e9)
    for b in (None, bias):
        want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=b)
        assert torch.allclose(dit.EAGER.products(q, k, v, b), want, atol=1e-5)


def test_store():
    """Rows come back as they were added, a part of a batch that a kill left is cut off, and nothing is begun for nothing."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = store.shapes("rollouts")
        batch = [rng.integers(0, 100, (3, *shape)).astype(dtype) for _, dtype, shape in kinds]
        store.append(folder, "rollouts", 5, iter((batch, batch)))
        with open(folder / kinds[0][0], "ab") as f:
            f.write(b"torn")
        assert store.held(folder, "rollouts") == 6
        store.append(folder, "rollouts", 6, None)
        store.append(folder, "rollouts", 9, iter((batch,)))
        for kept, rows in zip(store.open_store(folder, "rollouts"), batch):
            assert len(kept) == 9 and all((kept[i:i + 3] == rows).all() for i in (0, 3, 6))


def test_chain():
    """A row of a rollout holds what the world draws from the frame on where its given latents begin: with a window that
    makes just that, both are the same clip's."""
    model = wan.build().eval()
    attributes, frames, where, seed = rollouts.Chains(0, 2, 4)(0)
    assert frames.shape[1] == 3 * rollouts.STEP + FRAMES
    roller = types.SimpleNamespace(vae=model, at=0)

    def perfect(given, attributes, rng):
        roller.at += 1
        begin = (roller.at - 1) * rollouts.STEP
        return frames[:, begin:begin + FRAMES]

    roller.next = perfect
    rows = list(rollouts.Roller.roll(roller, attributes, frames, where, seed))
    assert len(rows) == 2 and roller.at == 3
    for z, _, actor, given in rows:
        z, given = store.unpack(z), store.unpack(given)
        assert actor.shape == (2, *z.shape[2:]) and torch.allclose(z[:, :, :store.GIVEN], given, atol=0.02)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "ok")

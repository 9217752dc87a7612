"""Muon for matrices and convolutions, AdamW for the rest, in one optimizer with one learning rate."""
import torch


def orthogonalize(g):
    """Five Newton-Schulz steps towards the nearest matrix with equal singular values."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.reshape(g.shape[0], -1).float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    if x.shape[1] < 3 * x.shape[0]:
        x = x.bfloat16()
        for _ in range(5):
            s = x @ x.T
            x = a * x + (b * s + c * s @ s) @ x
        x = x.float()
    else:
        # The steps are polynomials in the small Gram matrix: multiply the long one only twice.
        s = x @ x.T
        total = eye = torch.eye(len(s), device=s.device)
        for _ in range(5):
            p = a * eye + b * s + c * (s @ s)
            total = p @ total
            s = p @ s @ p
        x = total @ x
    return (x.T if tall else x).reshape(g.shape)


class Muon(torch.optim.Optimizer):
    """lr is that of AdamW: an orthogonal update is scaled to the root mean square that AdamW's has."""

    def __init__(self, params, lr, betas=(0.9, 0.98), momentum=0.95, decay=0.01, matrix=None):
        super().__init__(params, dict(lr=lr, betas=betas, momentum=momentum, decay=decay, step=0))
        self.matrix = matrix or (lambda p: p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 8)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (b1, b2) = group["lr"], group["betas"]
            group["step"] += 1
            n = group["step"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                g, s = p.grad.float(), self.state[p]
                if "m" not in s:
                    s["m"] = torch.zeros_like(p)
                if self.matrix(p):
                    s["m"].mul_(group["momentum"]).add_(g)
                    u = orthogonalize(g + group["momentum"] * s["m"])
                    u *= 0.2 * max(u.shape[0], u[0].numel()) ** 0.5
                else:
                    if "v" not in s:
                        s["v"] = torch.zeros_like(p)
                    s["m"].lerp_(g, 1 - b1)
                    s["v"].lerp_(g * g, 1 - b2)
                    u = s["m"] / (1 - b1 ** n) / ((s["v"] / (1 - b2 ** n)).sqrt() + 1e-8)
                if p.ndim >= 2:
                    p.mul_(1 - lr * group["decay"])
                p.add_(u, alpha=-lr)

"""Muon for matrices and convolutions, AdamW for the rest, in one optimizer with one learning rate."""
import torch

from precision import product_type


def orthogonalize(g):
    """Five Newton-Schulz steps towards the nearest matrices with equal singular values; g [n, rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if x.shape[2] < 3 * x.shape[1]:
        x = x.to(product_type(x.device))
        for _ in range(5):
            s = x @ x.mT
            x = a * x + (b * s + c * s @ s) @ x
        x = x.float()
    else:
        # The steps are polynomials in the small Gram matrix: multiply the long one only twice.
        s = x @ x.mT
        total = eye = torch.eye(s.shape[1], device=s.device).expand_as(s)
        for _ in range(5):
            p = a * eye + b * s + c * (s @ s)
            total = p @ total
            s = p @ s @ p
        x = total @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """lr is that of AdamW: an orthogonal update is scaled to the root mean square that AdamW's has."""

    def __init__(self, params, lr, betas=(0.9, 0.98), momentum=0.95, decay=0.01, matrix=None):
        super().__init__(params, dict(lr=lr, betas=betas, momentum=momentum, decay=decay, step=0))
        self.matrix = matrix or (lambda p: p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 8)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["step"] += 1
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if "m" not in self.state[p]:
                    self.state[p]["m"] = torch.zeros_like(p)
            shapes = {}  # matrices of one shape go through the steps together
            for p in params:
                if self.matrix(p):
                    shapes.setdefault((p.shape[0], p[0].numel()), []).append(p)
            for (rows, columns), same in shapes.items():
                self.muon(group, same, rows, columns)
            self.adamw(group, [p for p in params if not self.matrix(p)])

    def muon(self, group, params, rows, columns):
        g, m = [p.grad.float() for p in params], [self.state[p]["m"] for p in params]
        torch._foreach_mul_(m, group["momentum"])
        torch._foreach_add_(m, g)
        u = torch.stack(torch._foreach_add(g, m, alpha=group["momentum"])).view(-1, rows, columns)
        u = orthogonalize(u) * (0.2 * max(rows, columns) ** 0.5)
        torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
        torch._foreach_add_(params, [v.reshape(p.shape) for v, p in zip(u, params)], alpha=-group["lr"])

    def adamw(self, group, params):
        if not params:
            return
        (b1, b2), n, g = group["betas"], group["step"], [p.grad.float() for p in params]
        for p in params:
            if "v" not in self.state[p]:
                self.state[p]["v"] = torch.zeros_like(p)
        m, v = ([self.state[p][k] for p in params] for k in "mv")
        torch._foreach_lerp_(m, g, 1 - b1)
        torch._foreach_lerp_(v, torch._foreach_mul(g, g), 1 - b2)
        root = torch._foreach_sqrt(torch._foreach_div(v, 1 - b2 ** n))
        torch._foreach_add_(root, 1e-8)
        u = torch._foreach_div(torch._foreach_div(m, 1 - b1 ** n), root)
        decayed = [p for p in params if p.ndim >= 2]
        if decayed:
            torch._foreach_mul_(decayed, 1 - group["lr"] * group["decay"])
        torch._foreach_add_(params, u, alpha=-group["lr"])

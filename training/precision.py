"""Where products are taken in bf16: on GPUs, and on CPUs that have instructions for it. Elsewhere PyTorch would emulate
them, a hundred times slower than f32."""
import torch


def product_type(device):
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device):
    return torch.autocast(device.type, torch.bfloat16, enabled=product_type(device) == torch.bfloat16)

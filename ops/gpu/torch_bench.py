"""PyTorch on the shapes of kernels/speed.c, in the same run: python3 torch_bench.py [--size small]

Prints "key<TAB>value<TAB>unit<TAB>what". For what this version or device has not it says so on stderr
and leaves the line out; without PyTorch, or a GPU that it sees, the exit status is 77. --size small
runs on a CPU, to try the script."""

import argparse
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError as error:
    print(f"no PyTorch: {error}", file=sys.stderr)
    sys.exit(77)

SAMPLES = 5
FULL = dict(tokens=32760, text=512, width=1536, heads=12, heads_14b=40, product=8192,
            copy=2 << 30, frames=4, height=480, columns=832)
SMALL = dict(tokens=240, text=32, width=256, heads=2, heads_14b=3, product=256,
             copy=8 << 20, frames=2, height=32, columns=48)


def put(key, value, unit, what):
    print(f"{key}\t{value:.6g}\t{unit}\t{what}", flush=True)


def seconds_of(call, device):
    """The median of some samples of queued calls, as speed.c takes it."""
    def sample(calls):
        before = time.perf_counter()
        for _ in range(calls):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - before) / calls

    sample(3)
    calls = max(1, min(2000, int(0.06 / max(sample(2), 1e-9))))
    return statistics.median(sample(calls) for _ in range(SAMPLES))


def attempt(key, what, call):
    """Do it, or say why not."""
    try:
        call()
    except (RuntimeError, TypeError) as error:
        print(f"torch_bench.py: {key}, {what}: {str(error).splitlines()[0]}", file=sys.stderr)


def attention(size, device):
    # [1, heads, tokens, head_dim] over rows of heads, as ours are.
    def rows(count, heads, width):
        x = torch.randn(1, count, heads, width, device=device, dtype=torch.bfloat16)
        return x.transpose(1, 2)

    tokens, heads = size["tokens"], size["heads"]
    cases = {"128": (tokens, tokens, heads, 128), "64": (tokens, tokens, 2 * heads, 64),
             "cross": (tokens, size["text"], heads, 128),
             "14b": (tokens, tokens, size["heads_14b"], 128)}
    backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    for case, (q_rows, k_rows, count, width) in cases.items():
        q, k, v = rows(q_rows, count, width), rows(k_rows, count, width), rows(k_rows, count, width)
        for name, backend in backends.items():
            key = f"torch_sdpa_{case}_{name}"
            what = f"torch SDPA {name}, {count} heads of {width}, {q_rows} tokens to {k_rows}"

            def run():
                with sdpa_kernel(backend):
                    took = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v), device)
                put(key, 4 * q_rows * k_rows * count * width / took * 1e-12, "TFLOP/s", what)

            attempt(key, what, run)


def matmul(size, device):
    n = size["product"]
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    b = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    out = torch.empty_like(a)
    took = seconds_of(lambda: torch.matmul(a, b.t(), out=out), device)
    put("torch_matmul", 2 * n**3 / took * 1e-12, "TFLOP/s", f"torch matmul {n} x {n} x {n}, bf16")


def copy(size, device):
    x = torch.randn(size["copy"] // 4, device=device)
    out = torch.empty_like(x)
    took = seconds_of(lambda: out.copy_(x), device)
    put("torch_copy", 2 * size["copy"] / took * 1e-9, "GB/s", f"torch copy of {size['copy'] >> 20} MiB")


def conv(size, device):
    for channels, scale in ((96, 1), (192, 2), (384, 4)):
        frames = size["frames"]
        height, width = size["height"] // scale, size["columns"] // scale
        x = torch.randn(1, channels, frames + 2, height, width, device=device, dtype=torch.bfloat16)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        layer = torch.nn.Conv3d(channels, channels, 3, padding=(0, 1, 1), device=device,
                                dtype=torch.bfloat16).to(memory_format=torch.channels_last_3d)
        key = f"torch_conv_{channels}"
        what = f"torch conv3d, channels last, {channels} channels, {frames}x{height}x{width}"

        def run():
            took = seconds_of(lambda: layer(x), device)
            flops = 2 * 27 * channels**2 * frames * height * width
            put(key, flops / took * 1e-12, "TFLOP/s", what)

        attempt(key, what, run)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("full", "small"), default="full")
    size = SMALL if parser.parse_args().size == "small" else FULL
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and size is FULL:
        print("PyTorch sees no GPU", file=sys.stderr)
        sys.exit(77)
    torch.backends.cudnn.benchmark = True
    print(f"torch\t0\t-\tPyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {device}")
    with torch.no_grad():
        for part in (matmul, copy, attention, conv):
            attempt(part.__name__, "torch", lambda: part(size, device))


main()

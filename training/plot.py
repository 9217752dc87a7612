"""The training curves as one picture: python3 plot.py LOG_FOLDER OUT.png"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = (("vae", "VAE: PSNR of training crops, dB", "psnr"), ("keyframe", "keyframe: flow matching loss", "loss"),
          ("keyframe2", "keyframe, second part: loss, actor weighing 4", "loss"), ("window", "window: flow matching loss", "loss"),
          ("window2", "window anew from that: loss, actor weighing 4", "loss"), ("text", "text encoder: sum of 7 cross entropies", "loss"))


def main():
    folder, out = Path(sys.argv[1]), sys.argv[2]
    shown = [p for p in PANELS if (folder / f"{p[0]}.csv").exists()]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.2 * len(shown), 3), squeeze=False)
    for ax, (name, title, key) in zip(axes[0], shown):
        with open(folder / f"{name}.csv") as f:
            rows = {int(r["step"]): float(r[key]) for r in csv.DictReader(f)}  # after a resume the later row counts
        ax.plot(list(rows), list(rows.values()), lw=1)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.grid(alpha=0.3)
        if key == "loss":
            ax.set_yscale("log")
    figure.tight_layout()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()

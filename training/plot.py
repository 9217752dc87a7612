"""The training curves as one picture: python3 plot.py LOG_FOLDER OUT.png"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# A curve in parts: what was trained on from a release begins again at step 0, what from a checkpoint does not.
PANELS = (("VAE: PSNR of training crops, dB\n(part 3: weighed, and of its own pictures too)", "psnr", ("vae", "vae2", "vae3")), ("keyframe: loss", "loss", ("keyframe", "keyframe2", "keyframe3", "keyframe4", "keyframe5", "keyframe6")),
          ("keyframe, to four steps: loss", "loss", ("keyframe_distilled", "keyframe_distilled2")), ("window: loss\n(part 8: of frames worsened more)", "loss", ("window", "window2", "window3", "window4", "window5", "window6", "window7", "window8")), ("text encoder: sum of 7 cross entropies", "loss", ("text",)))


def main():
    folder, out = Path(sys.argv[1]), sys.argv[2]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(4.2 * len(PANELS), 3), squeeze=False)
    for ax, (title, key, parts) in zip(axes[0], PANELS):
        begun = last = 0
        for part in parts:
            with open(folder / f"{part}.csv") as f:
                rows = {int(r["step"]): float(r[key]) for r in csv.DictReader(f)}  # after a resume the later row counts
            begun += last if min(rows) <= last else 0
            ax.plot([begun + step for step in rows], list(rows.values()), lw=1, label=f"part {parts.index(part) + 1}")
            last = max(rows)
        if len(parts) > 1:
            ax.legend(fontsize=7)
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

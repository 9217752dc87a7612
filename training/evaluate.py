"""Measures videos against their prompts: python3 evaluate.py --prompts FILE.jsonl --videos FOLDER

FILE has one JSON object a line: {"name": …, "scene": …, "motion": …}; "prompt" is read as "scene", and
"motion" may be absent. FOLDER holds NAME.* video files (or folders of numbered pictures) in any
form that ffmpeg reads. Every frame that is used is measured by classifier.py; what the texts do not
say is not measured. Prints a table; --json FILE writes every video's row. Exit status 1 when a video is missing
or unreadable.

--draw N writes a prompt file of N prompts instead, half of them held-out combinations.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from prompt_reader import read_motion, read_scene
from world import ATTRIBUTES, draw_attributes, held_out

# The 4-step rows of the issue: what must be reached.
BARS = {"sky": 0.97, "ground": 0.97, "colour": 0.93, "actor": 0.90, "motion": 0.93}
ALL = tuple(BARS)  # "all of these at once"
BAR_ALL_HELD_OUT, BAR_LAST_WINDOW, BAR_SEAM = 0.75, 0.90, 1.5


def video_of(folder, name):
    found = [p for p in sorted(folder.iterdir()) if p.stem == name or p.name == name]
    if not found:
        raise FileNotFoundError(f"no {name}.* in {folder}")
    return found[0]


def read_frames(path):
    """All frames, uint8 [F,H,W,3]."""
    source = ["-framerate", "16", "-pattern_type", "glob", "-i", str(path / "*.png")] if path.is_dir() else ["-i", str(path)]
    probe = path if not path.is_dir() else sorted(path.glob("*.png"))[0]
    size = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0", str(probe)],
                          check=True, capture_output=True, text=True).stdout.strip().strip(",")
    width, height = map(int, size.split(","))
    raw = subprocess.run(["ffmpeg", "-v", "error", *source, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def seam_ratio(frames, first, step):
    """Mean change between frames across seams over the one inside windows; None without a seam."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))
    seams = np.arange(first - 1, len(change), step)
    if not len(seams):
        return None
    inside = np.setdiff1d(np.arange(len(change)), seams)
    return float(change[seams].mean() / max(change[inside].mean(), 1e-6))


def measure(look, frames, wanted, first, step):
    """One video's row: wanted, found, right, and for long ones the last window and the seams."""
    start = frames[:first]
    found = look(start)
    row = {"wanted": wanted, "found": found, "right": {k: found.get(k) == v for k, v in wanted.items()}, "frames": len(frames)}
    if len(frames) >= first + step:
        last = look(frames[-step:])
        row["last"] = {k: last[k] == wanted[k] for k in ("sky", "ground") if k in wanted}
        row["seam"] = seam_ratio(frames, first, step)
    return row


def share(rows, test):
    known = [t for t in map(test, rows) if t is not None]
    return (sum(known) / len(known), len(known)) if known else (None, 0)


def at_once(row):
    asked = [row["right"][k] for k in ALL if k in row["right"]]
    return all(asked) if asked else None


def table(rows):
    lines = [("measure", "share", "of", "at least")]
    add = lambda name, value, bar: lines.append((name, "-" if value[0] is None else f"{value[0]:.1%}", str(value[1]), f"{bar:.0%}" if bar else ""))
    for k in ATTRIBUTES:
        add({"actor": "actor's kind", "colour": "actor's colour"}.get(k, k), share(rows, lambda r: r["right"].get(k)), BARS.get(k))
    add("all at once", share(rows, at_once), None)
    held = [r for r in rows if r["held_out"]]
    add("all at once, held-out combinations", share(held, at_once), BAR_ALL_HELD_OUT)
    long = [r for r in rows if "last" in r]
    add("last window: sky and ground", share(long, lambda r: all(r["last"].values())), BAR_LAST_WINDOW)
    seams = [r["seam"] for r in long if r["seam"] is not None]
    if seams:
        lines.append(("seam, median ratio", f"{np.median(seams):.2f}", str(len(seams)), f"<= {BAR_SEAM}"))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in lines)


def draw_prompts(count, seed, path):
    from captions import motion_caption, scene_caption
    rng = np.random.default_rng(seed)
    with open(path, "w") as f:
        for i in range(count):
            scene = draw_attributes(rng, held=i % 2 == 1)
            f.write(json.dumps({"name": f"p{i:03d}", "scene": scene_caption(scene, rng)[0], "motion": motion_caption(scene, rng)}) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--prompts", type=Path, required=True)
    p.add_argument("--videos", type=Path)
    p.add_argument("--json", type=Path, help="a line of JSON a video goes here")
    p.add_argument("--summary", type=Path, help="the shares as one JSON object, a line each: models/pocket/measured.json")
    p.add_argument("--draw", type=int, metavar="N", help="write N prompts to --prompts instead")
    p.add_argument("--seed", type=int, default=2026)
    p.add_argument("--window", type=int, default=17, help="frames of the first window")
    p.add_argument("--step", type=int, default=12, help="new frames of each later window")
    a = p.parse_args()
    if a.draw:
        return draw_prompts(a.draw, a.seed, a.prompts)
    if not a.videos:
        p.error("--videos is needed")
    import classifier
    eye, own = classifier.load()
    rows, missing = [], 0
    for number, line in enumerate(a.prompts.read_text().splitlines(), 1):
        if not line.strip():
            continue
        prompt = json.loads(line)
        scene, motion = prompt.get("scene", prompt.get("prompt")), prompt.get("motion", "")
        if scene is None or "name" not in prompt:
            sys.exit(f"{a.prompts}:{number}: expected an object with \"name\" and \"scene\"")
        wanted = read_scene(scene)
        if read_motion(motion):
            wanted["motion"] = read_motion(motion)
        try:
            frames = read_frames(video_of(a.videos, prompt["name"]))
        except (OSError, ValueError, IndexError, subprocess.CalledProcessError) as problem:
            print(f"{prompt['name']}: {problem}", file=sys.stderr)
            missing += 1
            continue
        whole = {"behind": "nothing", "weather": "clear", **wanted}
        rows.append({"name": prompt["name"], "held_out": len(whole) == len(ATTRIBUTES) and held_out(whole),
                     **measure(lambda f: classifier.look(eye, f), frames, wanted, a.window, a.step)})
    if a.json:
        a.json.write_text("".join(json.dumps(r) + "\n" for r in rows))
    if a.summary:
        shares = {k: share(rows, lambda r: r["right"].get(k))[0] for k in ATTRIBUTES}
        shares["held_out_all"] = share([r for r in rows if r["held_out"]], at_once)[0]
        a.summary.write_text(json.dumps({k: round(v, 4) for k, v in shares.items() if v is not None}, indent=2) + "\n")
    print(table(rows))
    print(f"{len(rows)} videos measured, {missing} missing; the classifier's own accuracy on drawn clips:", ", ".join(f"{k} {float(v):.1%}" for k, v in own.items()))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

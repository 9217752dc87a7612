"""The drawn world: its attributes, and world.c behind ctypes. Needs NumPy and a C compiler."""
import ctypes
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SKY = ("dawn", "day", "sunset", "night")
GROUND = ("sea", "desert", "meadow", "snowfield")
BEHIND = ("nothing", "mountains", "hills", "city")
ACTOR = ("sailboat", "balloon", "bird", "car", "house", "tree")
COLOUR = ("red", "blue", "yellow", "white", "black", "green", "orange", "purple")
MOTION = ("left", "right", "rises", "sinks", "still")
WEATHER = ("clear", "rain", "snowfall")
ATTRIBUTES = {"sky": SKY, "ground": GROUND, "behind": BEHIND, "actor": ACTOR, "colour": COLOUR,
              "motion": MOTION, "weather": WEATHER}

MOTIONS_OF = {"sailboat": ("left", "right", "still"), "balloon": MOTION, "bird": MOTION,
              "car": ("left", "right", "still"), "house": ("still",), "tree": ("still",)}

WIDTH, HEIGHT, FPS, FRAMES = 160, 96, 16, 17
OVERLAP = 5  # of a window's frames, those that later ones are given

# Never drawn in training; a scene is held out when it has all the values of one line.
HELD_OUT = (
    {"actor": "sailboat", "colour": "purple", "sky": "dawn"},
    {"actor": "car", "colour": "white", "ground": "snowfield"},
    {"actor": "balloon", "colour": "green", "sky": "sunset"},
    {"actor": "bird", "colour": "yellow", "ground": "desert"},
    {"actor": "tree", "colour": "blue", "behind": "city"},
    {"actor": "house", "colour": "orange", "sky": "night"},
    {"actor": "balloon", "colour": "black", "weather": "rain"},
    {"actor": "sailboat", "colour": "red", "weather": "snowfall"},
)


def possible(scene):
    on_sea = scene["ground"] == "sea"
    if scene["actor"] == "sailboat" and not on_sea:
        return False
    if scene["actor"] in ("car", "house", "tree") and on_sea:
        return False
    return scene["motion"] in MOTIONS_OF[scene["actor"]]


def held_out(scene):
    return any(all(scene[k] == v for k, v in rule.items()) for rule in HELD_OUT)


def draw_attributes(rng, held=False):
    """A possible scene as a dict; from training's share, or (held=True) from the held-out one."""
    while True:
        scene = {"actor": ACTOR[rng.integers(6)]}
        if held:
            scene.update(HELD_OUT[rng.integers(len(HELD_OUT))])
        for name, values in ATTRIBUTES.items():
            scene.setdefault(name, values[rng.integers(len(values))])
        # Choose ground and motion among those the actor can have, so that actors stay equally many.
        if scene["actor"] == "sailboat":
            scene["ground"] = "sea"
        moves = MOTIONS_OF[scene["actor"]]
        scene["motion"] = moves[rng.integers(len(moves))]
        if not held and rng.random() < 0.3:
            scene["weather"] = "clear"
        if possible(scene) and held_out(scene) == held:
            return {name: scene[name] for name in ATTRIBUTES}


def _library():
    source = Path(__file__).with_name("world.c")
    flags = ["-O3", "-fno-math-errno", "-fPIC", "-shared"]
    key = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vidloom"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"world-{key}.so"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".so", delete=False) as made:
            pass
        subprocess.run(["cc", *flags, str(source), "-o", made.name, "-lm"], check=True)
        os.replace(made.name, path)
    lib = ctypes.CDLL(str(path))
    lib.world_clip.argtypes = [ctypes.c_void_p, ctypes.c_uint64] + [ctypes.c_int] * 5 + [ctypes.c_void_p] * 2
    return lib


_lib = None


def render(scene, seed, first=0, count=1, width=WIDTH, height=HEIGHT, anywhere=False, where=False):
    """Frames first..first+count-1 of a scene: uint8 (count, height, width, 3). With where=True also
    the actor's x, y, half width, half height per frame in pixels. anywhere: the actor starts at any
    phase of its way, not necessarily wholly visible."""
    global _lib
    _lib = _lib or _library()
    attr = np.array([ATTRIBUTES[k].index(scene[k]) for k in ATTRIBUTES], np.int32)
    out = np.empty((count, height, width, 3), np.uint8)
    place = np.empty((count, 4), np.float32)
    if _lib.world_clip(attr.ctypes.data, seed, int(anywhere), first, count, width, height,
                       out.ctypes.data, place.ctypes.data):
        raise MemoryError("world_clip")
    return (out, place) if where else out

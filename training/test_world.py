"""The drawn world: same seed, same pixels; held-out scenes stay out; motion goes where it is told."""
import numpy as np

from world import ATTRIBUTES, HELD_OUT, draw_attributes, held_out, possible, render


def test_deterministic():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene, seed = draw_attributes(rng), int(rng.integers(1 << 40))
        clip = render(scene, seed, 3, 4, anywhere=True)
        assert (clip == render(scene, seed, 3, 4, anywhere=True)).all()
        assert (clip[2] == render(scene, seed, 5, 1, anywhere=True)[0]).all()


def test_sizes():
    scene = draw_attributes(np.random.default_rng(1))
    assert render(scene, 5, 0, 2, 320, 192).shape == (2, 192, 320, 3)
    small, large = render(scene, 5)[0], render(scene, 5, width=320, height=192)[0]
    halved = large.reshape(96, 2, 160, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 3


def test_held_out():
    rng = np.random.default_rng(2)
    drawn = [draw_attributes(rng) for _ in range(3000)]
    assert all(possible(s) and not held_out(s) for s in drawn)
    held = [draw_attributes(rng, held=True) for _ in range(300)]
    assert all(possible(s) and held_out(s) for s in held)
    assert all(any(all(s[k] == v for k, v in rule.items()) for s in held) for rule in HELD_OUT)
    for name, values in ATTRIBUTES.items():
        assert {s[name] for s in drawn} == set(values)


def test_motion():
    rng = np.random.default_rng(3)
    for _ in range(60):
        scene = draw_attributes(rng)
        _, where = render(scene, int(rng.integers(1 << 40)), 0, 9, where=True)
        dx, dy = where[8, :2] - where[0, :2]
        way = {"left": dx < -7, "right": dx > 7, "rises": dy < -4, "sinks": dy > 4, "still": abs(dx) + abs(dy) < 2.5}
        assert way[scene["motion"]], (scene, dx, dy)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(name, "ok")

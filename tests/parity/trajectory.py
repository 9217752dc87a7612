"""Whole requests through diffusers' pipelines: condition, image encoder, experts, guidance and every step."""
from unittest import mock

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

import clip
from common import Noise, generator, save_case
from models import shapes_of
from transformer import latent_size

EULER, UNIPC, RENOISE, DPMPP = range(4)  # enum sampler
SEED, STREAM = 7, 8
STEP_LISTS = {"lightx2v": (EULER, (1, 0.9375, 0.8333333, 0.625)), "self-forcing": (RENOISE, (1, 0.9375, 0.8333333, 0.625)),
              "causvid": (RENOISE, (1, 0.757, 0.522)), "rcm": (RENOISE, (0.9876543, 0.9337811, 0.8528954, 0.6089790))}


def levels(steps, shift):
    return [shift * s / (1 + (shift - 1) * s) for s in (1 - i / steps for i in range(steps))]


class GivenSigmas:
    """A scheduler that takes this list, whatever number of steps it is asked for."""
    given, whole_times = None, False

    def set_timesteps(self, num_inference_steps=None, device=None, **_):
        super().set_timesteps(len(self.given))
        self.sigmas = torch.tensor([*self.given, 0.0], dtype=torch.float32)
        self.timesteps = self.sigmas[:-1] * 1000
        if self.whole_times:
            self.timesteps = self.timesteps.floor()


class Euler(GivenSigmas, FlowMatchEulerDiscreteScheduler):
    pass


class Dpmpp(GivenSigmas, DPMSolverMultistepScheduler):
    whole_times = True


def scheduler(sampler, sigmas):
    if sampler == DPMPP:
        made = Dpmpp(prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, algorithm_type="dpmsolver++",
                     solver_type="midpoint", final_sigmas_type="zero")
    else:
        made = Euler(stochastic_sampling=sampler == RENOISE)
    made.given = sigmas
    return made


def run(out, shapes, kind, pipeline, name, *, frames=None, sampler=UNIPC, steps=None, shift=None, sigmas=None,
        guidance=(5.0, 5.0), first=None, last=None):
    """sigmas: a list; else those of sampler, steps and shift."""
    g = generator(shapes, 300)
    _, height, width = latent_size(kind, shapes)
    frames = frames or shapes.frames
    length = (frames - 1) // 4 + 1
    steps, shift = steps or shapes.steps, shift or kind.shift
    positive, negative = (torch.randn(n, shapes.text_dim, generator=g) for n in (120, 60))
    noise = Noise(SEED, STREAM)
    channels = pipeline.transformer.config.out_channels
    start = noise.next((1, channels, length, height, width))
    listed = sigmas or (levels(steps, shift) if sampler != UNIPC else None)
    if sampler != UNIPC:
        pipeline.scheduler = scheduler(sampler, listed)
        if sampler == RENOISE:
            start = start * listed[0]
    pad = lambda rows: torch.cat([rows, torch.zeros(shapes.text_rows - len(rows), shapes.text_dim)])[None]
    pictures = {}
    if first is not None:
        pictures["image"] = Image.fromarray(first.numpy())
    if last is not None:
        pictures["last_image"] = Image.fromarray(last.numpy())
    two = dict(guidance_scale_2=guidance[1]) if kind.experts else {}
    draw = lambda shape, **_: noise.next(tuple(shape))
    with mock.patch("diffusers.schedulers.scheduling_flow_match_euler_discrete.randn_tensor", draw):
        latents = pipeline(prompt_embeds=pad(positive), negative_prompt_embeds=pad(negative), height=shapes.height,
                           width=shapes.width, num_frames=frames, num_inference_steps=len(listed) if listed else steps,
                           guidance_scale=guidance[0], latents=start, output_type="latent", return_dict=False,
                           **pictures, **two)[0][0]
    case = {"settings": torch.tensor([sampler, len(listed) if listed else steps, guidance[0], guidance[1], shift]),
            "size": torch.tensor([shapes.width, shapes.height, frames], dtype=torch.int32),
            "seed": torch.tensor([SEED, STREAM], dtype=torch.int32), "positive": positive, "negative": negative,
            "latents": latents}
    if sigmas:
        case["sigmas"] = torch.tensor([*sigmas, 0.0])
    if first is not None:
        case["tail"] = first[None]
    if last is not None:
        case["end"] = last[None]
    save_case(out / kind.name, "trajectory", name, case)


@torch.no_grad()
def make(out, shapes, kind, text, image):
    own = shapes_of(kind, shapes)
    usual = text or image
    unipc = usual.scheduler
    first, last = (clip.picture(shapes, salt, own.width, own.height) for salt in (70, 71))
    guidance = (4.0, 3.0) if kind.experts else (5.0, 5.0)

    def go(pipeline, name, **options):
        pipeline.scheduler = unipc
        run(out, own, kind, pipeline, name, **{"guidance": guidance, **options})

    if text is not None:
        go(text, "window")
        go(text, "keyframe", frames=1)
    if image is not None:
        go(image, "image", first=first, **({"last": last} if kind.last else {}))
    if kind.name == "i2v-a14b":
        go(image, "image-and-end", first=first, last=last)
        go(image, "low-unguided", first=first, guidance=(3.5, 1.0), steps=6)
    if kind.name == "t2v":
        go(text, "euler", sampler=EULER)
        go(text, "dpmpp", sampler=DPMPP)
        go(text, "unguided", guidance=(1.0, 1.0), steps=3)
        for name, (sampler, sigmas) in STEP_LISTS.items():
            go(text, name, sampler=sampler, sigmas=sigmas, guidance=(1.0, 1.0))
    if kind.name == "t2v-a14b":
        go(text, "lightx2v", sampler=EULER, sigmas=STEP_LISTS["lightx2v"][1], guidance=(1.0, 1.0))

#include "refused.h"

#define HEAD  "model: pocket\nvideos:\n"
#define VIDEO HEAD "  - {prompt: a, seconds: 1, "

const struct refused refused_files[] = {
    {"[1, 2]",
     "job.yaml:1:1: expected a job: a mapping with the keys job, model, output, defaults, "
     "videos",
     ERR_USAGE, false},
    {"model: pocket\nvideo: []",
     "job.yaml:2:1: a job has no key \"video\"; did you mean \"videos\"?", ERR_USAGE, false},
    {"model: pocket\nfoo: 1",
     "job.yaml:2:1: a job has no key \"foo\"; it has: job, model, weights, "
     "lora, output, defaults, videos",
     ERR_USAGE, false},
    {"videos: []", "job.yaml:1:1: the job names no model; expected e.g. model: pocket", ERR_USAGE,
     false},
    {"model: pocket",
     "job.yaml:1:1: the job has no videos; expected a list, or {file: prompts.txt}", ERR_USAGE,
     false},
    {"model: pocket\nvideos: []",
     "job.yaml:2:9: videos: expected a list of videos, or {file: prompts.txt}, found an empty list",
     ERR_USAGE, false},
    {"model: poket\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: there is no model poket", ERR_MISSING, true},
    {"model: picture\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: picture (pocket) cannot make windows", ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:8: model: expected {keyframe: …, window: …}, found no window", ERR_USAGE, false},
    {"model: i2v\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: model: i2v (pocket) cannot make a keyframe; give the videos an image, or name "
     "a "
     "model that can",
     ERR_UNSUPPORTED, true},
    {"model: single\nvideos: [{prompt: a, seconds: 2}]",
     "job.yaml:2:31: model: single makes single windows of 17 frames and cannot go on from one; "
     "the "
     "video has 32 frames",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, frames: 18}]",
     "job.yaml:2:30: frames: model t2v makes a video from its text alone and cannot continue it, "
     "so "
     "it is one window, of at most 17 frames, not 18; model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL} makes longer ones",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, image: i.png}]",
     "job.yaml:2:41: image: model t2v makes a video from its text alone, without a first picture; "
     "only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: t2v}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:1:19: model: model t2v makes a video from its text alone, without a first picture; "
     "only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, keyframe: {steps: 2}}]",
     "job.yaml:2:34: keyframe: model t2v makes a video from its text alone, without a first "
     "picture; only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, windows: last_frame}]",
     "job.yaml:2:43: windows: model t2v cannot go on by last_frame; leave the key out for its own "
     "way",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nvideos: [{prompt: a, seconds: 1, end_image: e.png}]",
     "job.yaml:2:45: end_image: model t2v cannot end a window in a given picture", ERR_UNSUPPORTED,
     true},
    {"model: ends\nvideos: [{prompt: a, frames: 6, image: a.png, end_image: b.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 5 or 9 frames, not 6: "
     "its last window starts from 1 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {HEAD "  - {prompt: a, seconds: 1, sigmas: [1e-300]}",
     "job.yaml:3:38: sigmas: noise level 1e-300 is 0, or the one before it, in the single "
     "precision that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, sigmas: [0.5, 0.49999999999]}",
     "job.yaml:3:43: sigmas: noise level 0.49999999999 is 0, or the one before it, in the single "
     "precision "
     "that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, timesteps: [900, 1], shift: 1e-40}",
     "job.yaml:3:40: timesteps, shifted: noise level 9e-40 is 0, or the one before it, in the "
     "single precision that is computed with",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, steps: self-forcing, guidance: 5}",
     "job.yaml:3:60: guidance: the published list at job.yaml:3:36 is for a model without "
     "guidance; leave it out there (of keyframe and window each has its own), or list the noise "
     "levels by sigmas",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, steps: self-forcing, sampler: unipc}",
     "job.yaml:3:59: sampler: the published list at job.yaml:3:36 is for renoise, not unipc; leave "
     "the sampler out, or list the noise levels by sigmas",
     ERR_USAGE, true},
    {"model: i2v\nlora: [{file: l.safetensors, stage: keyframe}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:37: lora: stage: model i2v makes no keyframes, so the LoRA would do nothing; say "
     "stage: window, or leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: t2v\nlora: [{file: l.safetensors, stage: keyframe}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:37: lora: stage: model t2v makes a video from its text alone, without a first "
     "picture; only an image-to-video model starts from one, as in model: {keyframe: t2v, window: "
     "AN-IMAGE-TO-VIDEO-MODEL}",
     ERR_UNSUPPORTED, true},
    {"model: pocket\nlora: []\nvideos: []",
     "job.yaml:2:7: lora: expected a list of LoRAs, each {file, strength, stage, expert}, found an "
     "empty list",
     ERR_USAGE, false},
    {"job: a/b\nmodel: pocket\nvideos: []",
     "job.yaml:1:6: job: expected a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that "
     "does "
     "not start with '.' or '-', found \"a/b\"",
     ERR_USAGE, false},
    {VIDEO "name: ..}",
     "job.yaml:3:35: name: expected a name of 1 to 128 letters a-z, digits, '.', '_' and '-' that "
     "does not start with '.' or '-', found \"..\"",
     ERR_USAGE, false},
    {HEAD "  - a red balloon",
     "job.yaml:3:5: expected a video, e.g. {name: a, prompt: a red balloon}, found \"a red "
     "balloon\"",
     ERR_USAGE, false},
    {VIDEO "promt: b}", "job.yaml:3:29: a video has no key \"promt\"; did you mean \"prompt\"?",
     ERR_USAGE, false},
    {HEAD "  - {seconds: 1}", "job.yaml:3:5: the video has no prompt", ERR_USAGE, true},
    {HEAD "  - {prompt: \" \", seconds: 1}",
     "job.yaml:3:14: prompt: expected text that is not empty, found \" \"", ERR_USAGE, true},
    {HEAD "  - {prompt: , seconds: 1}", "job.yaml:3:14: prompt: expected text, found nothing",
     ERR_USAGE, false},
    {HEAD "  - {prompt: 12, seconds: 1}",
     "job.yaml:3:14: prompt: expected text (put it in quotes if it is meant as one), found 12",
     ERR_USAGE, false},
    {HEAD "  - {prompt: [a], seconds: 1}", "job.yaml:3:14: prompt: expected text, found a list",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a}",
     "job.yaml:3:5: the video has no length; give seconds (or frames), here or in defaults",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: -3}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found -3",
     ERR_LIMIT, false},
    {HEAD "  - {prompt: a, seconds: 1e300}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found 1e300",
     ERR_LIMIT, false},
    {HEAD "  - {prompt: a, seconds: .nan}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \".nan\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: nan}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \"nan\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: \"10\"}",
     "job.yaml:3:26: seconds: expected seconds, a number above 0, at most 86400, found \"10\"",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, seconds: 0.001}",
     "job.yaml:3:26: seconds: that is less than one frame at 16 frames a second", ERR_USAGE, true},
    {HEAD "  - {prompt: a, frames: 20736000}",
     "job.yaml:3:25: frames: the video would take 1728000 windows of model pocket; at most 4096 "
     "(49157 frames)",
     ERR_LIMIT, true},
    {HEAD "  - {prompt: a, seconds: 80000}",
     "job.yaml:3:26: seconds: the video would take 106667 windows of model pocket; at most 4096 "
     "(49157 frames)",
     ERR_LIMIT, true},
    {VIDEO "frames: 5}", "job.yaml:3:37: frames: there are seconds too; give one of the two",
     ERR_USAGE, false},
    {HEAD "  - {prompt: a, frames: 1.5}",
     "job.yaml:3:25: frames: expected frames, a whole number from 1 to 20736000, found 1.5",
     ERR_USAGE, false},
    {VIDEO "seed: -1}",
     "job.yaml:3:35: seed: expected a seed, a whole number from 0 to 9223372036854775807, found -1",
     ERR_LIMIT, false},
    {VIDEO "seeds: 8..1}", "job.yaml:3:36: seeds: the range 8..1 ends before it begins; write 1..8",
     ERR_USAGE, true},
    {VIDEO "seeds: 0..9223372036854775807}",
     "job.yaml:3:36: seeds: the range 0..9223372036854775807 has more than 100000 seeds, the most "
     "videos that a job may have",
     ERR_LIMIT, true},
    {VIDEO "seeds: [1..5, 4]}", "job.yaml:3:43: seeds: seed 4 is there twice", ERR_USAGE, true},
    {VIDEO "seeds: [1..60000, 60001..120000]}",
     "job.yaml:3:36: seeds: 120000 seeds, more than the 100000 videos that a job may have",
     ERR_LIMIT, true},
    {VIDEO "seeds: [x]}",
     "job.yaml:3:37: seeds: expected a seed (0 to 9223372036854775807), a range as 1..8, or a list "
     "of those, found \"x\"",
     ERR_USAGE, false},
    {VIDEO "seed: 1, seeds: 1..2}",
     "job.yaml:3:38: seeds: there is a seed too; give one of the two", ERR_USAGE, false},
    {VIDEO "steps: 0}",
     "job.yaml:3:36: steps: expected steps, a whole number from 1 to 1000, found 0", ERR_LIMIT,
     false},
    {VIDEO "guidance: 1000}",
     "job.yaml:3:39: guidance: expected a guidance scale, a number of at least 0, at most 100, "
     "found "
     "1000",
     ERR_LIMIT, false},
    {VIDEO "shift: 0}",
     "job.yaml:3:36: shift: expected a shift, a number above 0, at most 100, found 0", ERR_LIMIT,
     false},
    {VIDEO "noise: 2}",
     "job.yaml:3:36: noise: expected a generator of noise, one of vidloom, torch, found 2",
     ERR_USAGE, false},
    {VIDEO "noise: torches}",
     "job.yaml:3:36: noise: expected a generator of noise, one of vidloom, torch, found "
     "\"torches\"; did you mean \"torch\"?",
     ERR_USAGE, false},
    {VIDEO "windows: overlap 0}",
     "job.yaml:3:38: windows: expected how windows go on: last_frame, overlap N (a number of "
     "frames) or prefix, found \"overlap 0\"",
     ERR_USAGE, false},
    {VIDEO "windows: overlap 7}",
     "job.yaml:3:38: windows: model pocket cannot go on from 7 frames; it can from 1 or 5",
     ERR_UNSUPPORTED, true},
    {VIDEO "windows: prefix}",
     "job.yaml:3:38: windows: model pocket cannot go on by prefix; leave the key out for its own "
     "way",
     ERR_UNSUPPORTED, true},
    {VIDEO "limits: {drift: 0}}",
     "job.yaml:3:45: drift: expected a measure of drift, a number above 0, at most 1, found 0",
     ERR_LIMIT, false},
    {VIDEO "limits: {draft: 0.1}}",
     "job.yaml:3:38: limits has no key \"draft\"; did you mean \"drift\"?", ERR_USAGE, false},
    {VIDEO "limits: {redraws: 17}}",
     "job.yaml:3:47: redraws: expected a number of redraws, a whole number from 0 to 16, found 17",
     ERR_LIMIT, false},
    {VIDEO "limits: 3}",
     "job.yaml:3:37: limits: expected a mapping, e.g. {drift: 0.15, seam: 0.05, redraws: 2}, found "
     "3",
     ERR_USAGE, false},
    {"model: pocket\nweights: int4\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: weights: expected a type of weights, one of bf16, int8, fp8, found \"int4\"; "
     "did you mean \"int8\"?",
     ERR_USAGE, false},
    {"model: pocket\nlora: [{strength: 1}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:8: a LoRA needs a file", ERR_USAGE, false},
    {"model: pocket\nlora: [{file: missing.safetensors}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:15: lora: missing.safetensors: no such file", ERR_MISSING, true},
    {"model: pocket\nlora: [{file: a.safetensors, strength: nan}]\nvideos: [{prompt: a, seconds: "
     "1}]",
     "job.yaml:2:40: strength: expected a strength, a number of at least -10, at most 10, found "
     "\"nan\"",
     ERR_USAGE, false},
    {"model: pocket\nlora: [{file: a.safetensors, expert: low}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: lora: expert: pocket has no experts, only one transformer; leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: experts}\nlora: [{file: a.safetensors, expert: low, stage: "
     "keyframe}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: lora: expert: pocket has no experts, only one transformer; leave the key out",
     ERR_UNSUPPORTED, true},
    {"model: experts\nlora: [{file: a.safetensors, expert: lo}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:38: expert: expected an expert, one of high, low, both, found \"lo\"; did you "
     "mean "
     "\"low\"?",
     ERR_USAGE, false},
    {"model: pocket\nlora: {file: a.safetensors}\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:7: lora: expected a list of LoRAs, each {file, strength, stage, expert}, found a "
     "mapping",
     ERR_USAGE, false},
    {VIDEO "sampler: uler}",
     "job.yaml:3:38: sampler: expected a sampler, one of euler, unipc, renoise, dpmpp, found "
     "\"uler\"; "
     "did "
     "you mean \"euler\"?",
     ERR_USAGE, false},
    {VIDEO "image: missing.png}", "job.yaml:3:36: image: missing.png: no such file", ERR_MISSING,
     true},
    {VIDEO "shots: [{seconds: 0.5}, {seconds: 1}]}",
     "job.yaml:3:29: shots: they add up to 1.5 seconds, but the video has 1", ERR_USAGE, true},
    {HEAD "  - {prompt: a, frames: 17, shots: [{seconds: 1}]}",
     "job.yaml:3:29: shots: they add up to 1 seconds (16 frames), but the video has 17 frames",
     ERR_USAGE, true},
    {VIDEO "shots: [{prompt: b}]}", "job.yaml:3:37: a shot needs seconds", ERR_USAGE, false},
    {VIDEO "shots: [{seconds: 1, moton: b}]}",
     "job.yaml:3:50: a shot has no key \"moton\"; did you mean \"motion\"?", ERR_USAGE, false},
    {VIDEO "shots: []}",
     "job.yaml:3:36: shots: expected a list of shots, each {seconds, prompt, motion}, found an "
     "empty list",
     ERR_USAGE, false},
    {VIDEO "shots: [{seconds: 0.99}, {seconds: 0.01}]}",
     "job.yaml:3:29: shots: shot 2 lasts less than one frame", ERR_USAGE, true},
    {VIDEO "output: {size: 150x100}}",
     "job.yaml:3:44: size: model pocket cannot make 150x100; its sides are multiples of 16 from 64 "
     "to 512 pixels, the nearest is 144x96",
     ERR_SHAPE, true},
    {VIDEO "output: {size: 4096x32}}",
     "job.yaml:3:44: size: model pocket cannot make 4096x32; its sides are multiples of 16 from 64 "
     "to 512 pixels, the nearest is 512x64",
     ERR_SHAPE, true},
    {VIDEO "output: {size: 160}}",
     "job.yaml:3:44: size: expected a size in pixels, as 160x96 or [160, 96], found 160", ERR_USAGE,
     false},
    {VIDEO "output: {size: [0, 99999999999]}}",
     "job.yaml:3:44: size: sides are from 1 to 8192 pixels, found 0x99999999999", ERR_LIMIT, false},
    {VIDEO "output: {fps: 0}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "0",
     ERR_LIMIT, false},
    {VIDEO "output: {fps: 1/0}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "\"1/0\"",
     ERR_LIMIT, true},
    {VIDEO "output: {fps: 0.5}}",
     "job.yaml:3:43: fps: expected frames a second from 1 to 240, as 16, 12.5 or 30000/1001, found "
     "0.5",
     ERR_LIMIT, false},
    {VIDEO "output: {fps: 1000000/999999}}",
     "job.yaml:3:43: fps: a fraction of 1/999999; at most 1/10000", ERR_LIMIT, true},
    {VIDEO "output: {codec: png, path: a.mkv}}",
     "job.yaml:3:45: codec: png does not go into .mkv, which can hold h264, hevc, av1, vp9, ffv1, "
     "prores, h264_nvenc, hevc_nvenc, av1_nvenc",
     ERR_USAGE, true},
    {VIDEO "output: {quality: 60}}",
     "job.yaml:3:47: quality: the scale of h264 ends at 51 (smallest), found 60", ERR_LIMIT, true},
    {VIDEO "output: {codec: h265}}",
     "job.yaml:3:45: codec: expected a codec, one of h264, hevc, av1, vp9, ffv1, prores, png, "
     "h264_nvenc, hevc_nvenc, av1_nvenc, found "
     "\"h265\"; did you mean \"h264\"?",
     ERR_USAGE, false},
    {VIDEO "output: {codec: prores, path: a.mp4}}",
     "job.yaml:3:45: codec: prores does not go into .mp4, which can hold h264, hevc, av1, vp9, "
     "h264_nvenc, hevc_nvenc, av1_nvenc",
     ERR_USAGE, true},
    {VIDEO "output: {quality: 64}}",
     "job.yaml:3:47: quality: expected a quality (0 is the best), a whole number from 0 to 63, "
     "found "
     "64",
     ERR_LIMIT, false},
    {VIDEO "output: {overwrite: yes}}",
     "job.yaml:3:49: overwrite: expected true or false, found \"yes\"", ERR_USAGE, false},
    {VIDEO "output: {path: ../a.mp4}}",
     "job.yaml:3:44: path: \"..\" is not allowed; write a path below the current folder, or an "
     "absolute one",
     ERR_USAGE, true},
    {VIDEO "output: {path: \"{vdeo}.mp4\"}}",
     "job.yaml:3:44: path: {vdeo} cannot be filled in; did you mean {video}; there are {job}, "
     "{video} and {seed}",
     ERR_USAGE, true},
    {VIDEO "output: {path: a.avi}}",
     "job.yaml:3:44: path: no container is called \".avi\"; expected a name that ends with .mp4, "
     ".mkv, .webm or .mov, or one without an extension for a folder of pictures",
     ERR_USAGE, true},
    {VIDEO "output: {path: /}}", "job.yaml:3:44: path: expected the name of a file", ERR_USAGE,
     true},
    {HEAD "  - {name: a, prompt: a, seconds: 1}\n  - {name: a, prompt: b, seconds: 1}",
     "job.yaml:4:12: two videos are called \"a\"; the other is at job.yaml:3:12", ERR_USAGE, true},
    {"model: pocket\noutput: {path: x.mp4}\nvideos:\n  - {prompt: a, seconds: 1}\n"
     "  - {prompt: b, seconds: 1}",
     "job.yaml:2:16: path: videos \"video-001\" and \"video-002\" would both be written to x.mp4; "
     "put {video} into the path",
     ERR_USAGE, true},
    {HEAD "  - {prompt: a, seconds: 1, output: {path: deep/o/b.mp4}}\n"
          "  - {prompt: a, seconds: 1, output: {path: deep/o, codec: png}}\n",
     "job.yaml:3:44: path: video \"video-001\" would be written into deep/o, which is where video "
     "\"video-002\" goes",
     ERR_USAGE, true},
    {VIDEO "output: {path: ~/a.mp4}}",
     "job.yaml:3:44: path: \"~\" is not the home folder here; write the folder's name out",
     ERR_USAGE, true},
    {VIDEO "attention: 8}",
     "job.yaml:3:40: attention: expected attention, one of exact, 8bit, found 8", ERR_USAGE, false},
    {VIDEO "steps: unknown}", "job.yaml:3:36: steps: no list \"unknown\"", ERR_USAGE, false},
    {VIDEO "steps: 4.5}",
     "job.yaml:3:36: steps: expected steps, a whole number from 1 to 1000, found 4.5", ERR_USAGE,
     false},
    {VIDEO "steps: 4, sigmas: [1]}",
     "job.yaml:3:39: sigmas: give one of steps, sigmas and timesteps", ERR_USAGE, false},
    {VIDEO "sigmas: [1, 0.5], timesteps: [1000]}",
     "job.yaml:3:47: timesteps: give one of steps, sigmas and timesteps", ERR_USAGE, false},
    {VIDEO "sigmas: []}",
     "job.yaml:3:37: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found an empty list",
     ERR_USAGE, false},
    {VIDEO "sigmas: 0.5}",
     "job.yaml:3:37: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0.5",
     ERR_USAGE, false},
    {VIDEO "sigmas: [1, 0.5, 0.5]}",
     "job.yaml:3:46: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0.5",
     ERR_USAGE, true},
    {VIDEO "sigmas: [1, 0, 0]}",
     "job.yaml:3:41: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0",
     ERR_USAGE, true},
    {VIDEO "sigmas: [0]}",
     "job.yaml:3:38: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 0",
     ERR_USAGE, true},
    {VIDEO "sigmas: [1.5]}",
     "job.yaml:3:38: sigmas: expected a list of 1 to 64 numbers that fall from at most 1 to above "
     "0, found 1.5",
     ERR_USAGE, false},
    {VIDEO "timesteps: [1000, many]}",
     "job.yaml:3:47: timesteps: expected a list of 1 to 64 numbers that fall from at most 1000 to "
     "above 0, found \"many\"",
     ERR_USAGE, false},
    {VIDEO "guidance_low: 3}",
     "job.yaml:3:43: guidance_low: it is of the second of two transformers that share the steps, "
     "and this model has one; say guidance",
     ERR_UNSUPPORTED, true},
    {"model: {keyframe: pocket, window: experts}\nvideos:\n  - {prompt: a, seconds: 1, keyframe: "
     "{guidance_low: 3}}",
     "job.yaml:3:54: guidance_low: it is of the second of two transformers that share the steps, "
     "and this model has one; say guidance",
     ERR_UNSUPPORTED, true},
    {"model: experts\nvideos: [{prompt: a, seconds: 1, guidance_low: 0}]",
     "job.yaml:2:48: guidance_low: expected a guidance scale, a number above 0, at most 100, found "
     "0",
     ERR_LIMIT, false},
    {VIDEO "window: 4}",
     "job.yaml:3:37: window: expected a mapping, e.g. {steps: 4, guidance: 1}, found 4", ERR_USAGE,
     false},
    {VIDEO "keyframe: {seed: 4}}",
     "job.yaml:3:40: keyframe has no key \"seed\"; it has: steps, sampler, shift, guidance, "
     "guidance_low, attention, sigmas, timesteps",
     ERR_USAGE, false},
    {VIDEO "end_image: last.png}",
     "job.yaml:3:40: end_image: model pocket cannot end a window in a given picture",
     ERR_UNSUPPORTED, true},
    {"model: ends\nvideos: [{prompt: a, frames: 17, end_image: missing.png}]",
     "job.yaml:2:45: end_image: missing.png: no such file", ERR_MISSING, true},
    {"model: ends\nvideos: [{prompt: a, frames: 16, end_image: last.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 13 or 17 frames, not "
     "16: its last window starts from 1 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {"model: ends\nvideos: [{prompt: a, frames: 20, end_image: last.png}]",
     "job.yaml:2:30: frames: a video that ends in a given picture can have 21 frames, not 20: its "
     "last window starts from 5 and has more, 4·n+1 with model ends",
     ERR_SHAPE, true},
    {"model: between\nvideos: [{prompt: a, frames: 17}]",
     "job.yaml:2:10: model: between makes a window between two pictures; give the video an "
     "end_image, or name another model",
     ERR_USAGE, true},
    {"model: between\nvideos: [{prompt: a, frames: 33, end_image: last.png}]",
     "job.yaml:2:30: frames: model between makes a window between two pictures, so a video is one "
     "window, of at most 17 frames, not 33",
     ERR_UNSUPPORTED, true},
    {"model: pocket\nlora:\n  - {file: style.safetensors}\n  - {file: other.safetensors}\n"
     "videos: [{prompt: a, seconds: 1}]",
     "job.yaml:4:12: lora: other.safetensors: made for another model than pocket", ERR_SHAPE, true},
    {"model: pocket\nlora: [{file: window.safetensors}]\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:15: lora: window.safetensors: made for another model than pocket", ERR_SHAPE,
     true},
    {"model: pocket2\nweights: fp8\nvideos: [{prompt: a, seconds: 1}]",
     "job.yaml:2:10: weights: no fp8 here", ERR_UNSUPPORTED, true},
    {"model: pocket\ndefaults: {name: x}\nvideos: []",
     "job.yaml:2:12: defaults has no key \"name\"; it has: prompt, motion, negative, image, "
     "end_image, seconds, frames, seed, seeds, noise, windows, steps, sampler, shift, guidance, "
     "guidance_low, attention, sigmas, timesteps, keyframe, window, limits, shots",
     ERR_USAGE, false},
    {"model: pocket\nvideos: {fil: x.txt}",
     "job.yaml:2:9: videos: expected a list of videos (each starting with \"- \"), or {file: "
     "prompts.txt}, found a mapping",
     ERR_USAGE, false},
    {"model: pocket\nvideos: {file: none.txt}", "job.yaml:2:16: file: none.txt: no such file",
     ERR_MISSING, true},
    {"model: pocket\nvideos: {file: bad.csv, seconds: 1}",
     "bad.csv:2:3: seed: expected a seed, a whole number from 0 to 9223372036854775807, found "
     "\"x\"",
     ERR_USAGE, true},
    {"model: pocket\nvideos: {file: bad.jsonl, seconds: 1}",
     "bad.jsonl:2:13: a video has no key \"promtp\"; did you mean \"prompt\"?", ERR_USAGE, true},
    {"model: pocket\nvideos: {file: empty.txt, seconds: 1}",
     "job.yaml:2:16: file: there is no prompt in empty.txt", ERR_USAGE, true},
    {"model: pocket\nvideos: {file: latin.txt, seconds: 1}",
     "latin.txt:2:4: byte 0xe9 is not UTF-8 text; save the list as UTF-8", ERR_FORMAT, true},
};
const size_t refused_count = sizeof refused_files / sizeof refused_files[0];

const struct fake refused_lists = {
    .files = {{"bad.csv", "prompt,seed\nb,x\n"},
              {"bad.jsonl", "{\"prompt\": \"a\"}\n{\"seed\": 1, \"promtp\": \"b\"}\n"},
              {"empty.txt", "# nothing\n\n"},
              {"latin.txt", "ok\ncaf\xe9\n"}}};

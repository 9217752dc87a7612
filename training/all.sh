#!/bin/sh
# The whole training by the clock, for a machine with a GPU: sh all.sh RUN OUT PART=MINUTES...
# Parts, in this order: vae latents keyframe window keyframe4 window4, then rollouts and window4 again. Each goes on from
# where it was; minutes are of the part's training in all, window4's those of window with it (latents: how many thousand
# keyframes, and half as many clips; rollouts: how many thousand windows). Exports to OUT what there is at the end, at four
# steps once window4 is there. RUN begins as the released model (restore.py) if it is not there.
#   sh all.sh RUN OUT vae=9
#   sh all.sh RUN OUT latents=60 keyframe=3 window=5
#   sh all.sh RUN OUT window=9 keyframe4=2 window4=13
#   sh all.sh RUN OUT rollouts=4 window4=17
set -eu
cd "$(dirname "$0")"
run=$1 out=$2
shift 2
[ -d "$run" ] || python3 restore.py "$run"
common="--latents $run/latents --vae $run/vae --text $run/text"

# shellcheck disable=SC2086 # of common, a list of options is meant
for order in "$@"; do
    part=${order%=*} amount=${order#*=}
    echo "== $part, $amount"
    case $part in
    vae) # what it made before is another encoder's
        rm -rf "$run/vae/latents.json" "$run/latents"
        python3 train_vae.py "$run/vae" --minutes "$amount" --times 16
        ;;
    latents) python3 latents.py "$run/latents" --vae "$run/vae" --keyframes $((amount * 1000)) --clips $((amount * 500)) ;;
    keyframe | window)
        python3 train_dit.py "$part" "$run/$part" $common --minutes $((amount * 2000 / 3))e-3 --batch 256
        python3 train_dit.py "$part" "$run/$part" $common --minutes "$amount" --batch 256 --focus 0
        ;;
    keyframe4)
        python3 distill.py keyframe "$run/$part" --teacher "$run/keyframe" $common --minutes "$amount" --batch 128
        ;;
    window4)
        [ -d "$run/$part" ] || cp -r "$run/window" "$run/$part"
        python3 train_dit.py window "$run/$part" $common --minutes "$amount" --batch 256 --focus 0 --few-steps
        ;;
    rollouts)
        [ -d "$run/window4" ] || cp -r "$run/window" "$run/window4"
        python3 rollouts.py "$run/latents" --vae "$run/vae" --text "$run/text" --window "$run/window4" --count $((amount * 1000)) --batch 32
        ;;
    *) echo "all.sh: no part is called '$part'" >&2 && exit 2 ;;
    esac
done

[ -f "$run/vae/latents.json" ] || exit 0 # the VAE alone has changed: its latents are not measured yet
keyframe=$run/keyframe window=$run/window few=
[ ! -d "${keyframe}4" ] || keyframe=${keyframe}4
[ ! -d "${window}4" ] || window=${window}4 few=--few-steps
python3 export.py "$out" --text "$run/text" --vae "$run/vae" --keyframe "$keyframe" --window "$window" $few

#!/bin/sh
# demo.sh: trains a hybrid on real text for three minutes, lets it write, and reports. Variables:
#   DATA         the text: a file, a folder, .gz, .zst or .jsonl   (the GNU dictionary of English)
#   DEMO_OUT     the run's folder, made anew each time              (demo/run)
#   DEMO_TIME    training time                                      (180s)
#   DEMO_STACK   the model                  (2 x (3 x (kda, swiglu), gqa, swiglu))
#   DEMO_PROMPT  what it continues
#   BRAID        the program                                        (build/braid)
set -eu
cd "$(dirname "$0")/.."

braid=${BRAID:-build/braid}
data=${DATA:-/usr/share/dictd/gcide.dict.dz}
out=${DEMO_OUT:-demo/run}
time=${DEMO_TIME:-180s}
stack=${DEMO_STACK:-2 x (3 x (kda, swiglu), gqa, swiglu)}
mark=.braid-demo

if [ ! -e "$data" ]; then
  echo "demo: $data is missing; give a text as DATA=path" >&2
  exit 3
fi
# Only what an earlier demo made is deleted; anything else in the way is somebody's work.
if [ -e "$out" ]; then
  if [ -d "$out" ] && { [ -e "$out/$mark" ] || [ -z "$(ls -A "$out")" ]; }; then
    rm -rf "$out"
  else
    echo "demo: $out exists and is no earlier demo; move it away or set DEMO_OUT" >&2
    exit 2
  fi
fi
mkdir -p "$out"
: > "$out/$mark"

# The default text is a dictionary in the form "Word \Pron`un*ci*a"tion\, n. Meaning."
if [ -n "${DEMO_PROMPT:-}" ]; then
  prompt=$DEMO_PROMPT
elif [ -n "${DATA:-}" ]; then
  prompt="The "
else
  prompt="Braid \\Braid\\, n. "
fi

step() { printf '\n== %s\n' "$*"; }

step "Training $stack with AttnRes residuals for $time on $data"
"$braid" train --stack "$stack" --residual attnres --width 192 --batch 8 --lr 4e-3 --data "$data" \
  --time "$time" --out "$out"

step "What it writes"
"$braid" generate -m "$out" --prompt "$prompt" -n 400 --temp 0.8 --seed 1

step "Report"
"$braid" report -m "$out"

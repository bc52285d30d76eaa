#!/bin/sh
# slowest_files.sh BUILD_FOLDER [COUNT]: the build steps that took longest, in seconds, from Ninja's
# own log. With ccache the log holds the cached time; CCACHE_DISABLE=1 and a fresh folder measure.
set -eu

log=${1:?usage: slowest_files.sh BUILD_FOLDER [COUNT]}/.ninja_log
count=${2:-10}
[ -f "$log" ] || { echo "$log is missing: nothing was built there" >&2; exit 1; }

echo "The $count slowest build steps (seconds):"
# One step may write several outputs: the longest entry of each output path, newest last.
awk -F '\t' '!/^#/ { seconds[$4] = ($2 - $1) / 1000 }
             END { for (output in seconds) printf "%8.1f  %s\n", seconds[output], output }' "$log" |
  sort -rn | head -n "$count"

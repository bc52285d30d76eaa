#!/usr/bin/env bash
# braid and llama.cpp on the same GGUF files, interleaved, with the same threads (README.md).
#
#   bench/peers/run.sh [build/braid]        results: $PEERS_OUT/results.jsonl
#
# PEERS_OUT      work folder, 5 GB            (~/.cache/braid-peers)
# PEERS_REPEATS  rounds, each of all runs     (3)
# PEERS_LONG     the second context length    (16384, 0 = leave out)
# PEERS_WEIGHTS  of matrices                  ("q8_0 q4_0")
# PEERS_MODELS   shapes                       ("qwen3 qwen3_next")
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
braid=$(realpath "${1:-build/braid}")
out=${PEERS_OUT:-$HOME/.cache/braid-peers}
threads=${PEERS_THREADS:-$(nproc)}
export NODE_LLAMA_CPP=${NODE_LLAMA_CPP:-$out}
mkdir -p "$out"
cd "$out"

if [ ! -d "$NODE_LLAMA_CPP/node_modules/node-llama-cpp" ]; then
  (cd "$NODE_LLAMA_CPP" && { [ -f package.json ] || npm init -y >/dev/null; } &&
    npm install --ignore-scripts node-llama-cpp@3.22.1 >&2)
fi
node "$here/llama_cpp.mjs" info | tee results.jsonl

# A vocabulary of 8192 learnt from braid's own text, so that the files carry a real tokenizer.
[ -f tokenizer/tokenizer.json ] ||
  "$braid" train-tokenizer --vocab 8192 -o tokenizer "$here/../../docs" "$here/../../braid" >&2
for model in ${PEERS_MODELS:-qwen3 qwen3_next}; do
  [ -f "$model/model.safetensors" ] || node "$here/random_model.mjs" "$model" "$model" >&2
  cp tokenizer/*.json "$model/"
  for weights in f32 ${PEERS_WEIGHTS:-q8_0 q4_0}; do
    [ -f "$model.$weights.gguf" ] ||
      "$braid" convert -m "$model" -o "$model.$weights.gguf" --to gguf --weights "$weights" >&2
  done
done

tokens=$(node -e 'console.log(Array.from({length: 64}, (_, i) => Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * 8192)).join())')
for model in ${PEERS_MODELS:-qwen3 qwen3_next}; do
  for weights in f32 ${PEERS_WEIGHTS:-q8_0 q4_0}; do
    node "$here/llama_cpp.mjs" logits "$model.$weights.gguf" --threads "$threads" --tokens "$tokens" --out peer.safetensors >/dev/null
    "$braid" logits -m "$model.$weights.gguf" --threads "$threads" --tokens "$tokens" --out own.safetensors >/dev/null
    node "$here/compare_logits.mjs" own.safetensors peer.safetensors |
      sed "s/^{/{\"agreement\":\"$model.$weights\",/" | tee -a results.jsonl
  done
done

for round in $(seq "${PEERS_REPEATS:-3}"); do
  for context in 2048 ${PEERS_LONG:-16384}; do
    [ "$context" = 0 ] && continue
    for model in ${PEERS_MODELS:-qwen3 qwen3_next}; do
      for weights in ${PEERS_WEIGHTS:-q8_0 q4_0}; do
        file=$model.$weights.gguf
        "$braid" speed -m "$file" --threads "$threads" --prompt 2048 --context "$context" --decode 32 --json | tee -a results.jsonl
        node "$here/llama_cpp.mjs" speed "$file" --threads "$threads" --prompt 2048 --context "$context" --decode 32 | tee -a results.jsonl
      done
    done
  done
done
node "$here/summary.mjs" results.jsonl

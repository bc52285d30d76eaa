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

# agreement NAME MODEL.gguf TOKENS-FILE
agreement() {
  node "$here/llama_cpp.mjs" logits "$2" --threads "$threads" --tokens-file "$3" --out peer.safetensors >/dev/null
  "$braid" logits -m "$2" --threads "$threads" --tokens-file "$3" --out own.safetensors >/dev/null
  node "$here/compare_logits.mjs" own.safetensors peer.safetensors |
    sed "s/^{/{\"agreement\":\"$1\",/" | tee -a results.jsonl
}

node -e 'console.log(Array.from({length: 64}, (_, i) => Math.floor(((i * 2654435761) % 2 ** 32) / 2 ** 32 * 8192)).join())' >random.ids
for model in ${PEERS_MODELS:-qwen3 qwen3_next}; do
  for weights in f32 ${PEERS_WEIGHTS:-q8_0 q4_0}; do
    agreement "$model.$weights, random" "$model.$weights.gguf" random.ids
  done
done

# Random weights enlarge every rounding and leave routers at a tie; so the same with two small models
# that braid trains here on its own text (about five minutes each), over a text they have not seen.
if [ ! -d text ]; then
  mkdir -p text.part
  cp -r "$here/../../docs" text.part/
  (cd "$here/../.." && git ls-files 'braid/*.h' 'braid/*.cpp' | xargs cat) >text.part/code.txt
  mv text.part text
fi
"$braid" tokenize --tokenizer tokenizer --ids --file "$here/../../README.md" | cut -d, -f1-512 >text.ids
moe='moe{experts=8,top_k=2,ffn=256,shared=256,shared_gate=true,balance=none}'
for model in ${PEERS_MODELS:-qwen3 qwen3_next}; do
  case $model in
    qwen3) shape=(--stack '6 x (gqa{kv_heads=2,rope_theta=1e+06,qk_norm=head}, swiglu{ffn=768})') ;;
    qwen3_next) shape=(--norm rms_norm_1p --tie-embeddings false --stack "2 x (3 x (gdn{heads=4,head_dim=64}, $moe),
      gqa{kv_heads=2,rope_theta=1e+07,rotary=0.25,qk_norm=head,one_plus=true,gate=true}, $moe)") ;;
  esac
  [ -f "trained.$model.f32.gguf" ] ||
    "$braid" train --out "trained.$model" --data text --tokenizer tokenizer --width 256 --heads 4 --head-dim 64 \
      "${shape[@]}" --batch 8 --seq-len 256 --steps 500 >&2
  for weights in f32 ${PEERS_WEIGHTS:-q8_0 q4_0}; do
    [ -f "trained.$model.$weights.gguf" ] ||
      "$braid" convert -m "trained.$model" -o "trained.$model.$weights.gguf" --to gguf --weights "$weights" >&2
    agreement "$model.$weights, trained" "trained.$model.$weights.gguf" text.ids
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

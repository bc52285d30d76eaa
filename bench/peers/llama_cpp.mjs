// llama.cpp through node-llama-cpp: speeds and logits of a GGUF file, one JSON line per answer.
//
//   node llama_cpp.mjs info
//   node llama_cpp.mjs speed  MODEL.gguf --threads 2 --context 2048 --prompt 2048 --decode 32
//   node llama_cpp.mjs logits MODEL.gguf --threads 2 --tokens 1,2,3 --out logits.safetensors
//   node llama_cpp.mjs tokens MODEL.gguf --cases cases.json
//
// tokens: the ids of every text of a file of tests/golden/tokenizers, special tokens recognised and
// none added, and how many are those of the file.
//
// speed: `prompt` tokens are read after `context - prompt` others (0 when equal), then `decode`
// tokens follow one by one. Times are those of llama_decode and the sampling of one greedy token,
// on a context that has been warmed up. NODE_LLAMA_CPP is the folder with node_modules.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";
import fs from "node:fs";

const home = process.env.NODE_LLAMA_CPP ?? path.join(process.env.HOME ?? "/tmp", ".cache/braid-peers");
const require = createRequire(pathToFileURL(path.join(home, "package.json")));
const { getLlama } = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

function flags(argv) {
  const out = { positional: [] };
  for (let i = 0; i < argv.length; ++i) {
    if (argv[i].startsWith("--")) out[argv[i].slice(2)] = argv[++i];
    else out.positional.push(argv[i]);
  }
  return out;
}

const f = flags(process.argv.slice(2));
const [what, file] = f.positional;
const threads = Number(f.threads ?? 2);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });

function say(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

// The same numbers as bench/peers/run.sh gives braid.
function token(i, vocab) {
  return Math.floor(((i * 2654435761) % 4294967296) / 4294967296 * vocab);
}

async function open(contextSize, batchSize) {
  const started = performance.now();
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0, useMmap: f.mmap !== "false" });
  const context = await model.createContext({
    contextSize,
    batchSize,
    threads: { ideal: threads, min: threads },
    flashAttention: f.flash === undefined ? "auto" : f.flash === "true",
    ignoreMemorySafetyChecks: true,
  });
  const vocab = Number(f.vocab ?? model.fileInfo?.metadata?.tokenizer?.ggml?.tokens?.length ?? 256);
  return { model, context, vocab, loadSeconds: (performance.now() - started) / 1000 };
}

async function speed() {
  const prompt = Number(f.prompt ?? 2048);
  const before = Math.max(0, Number(f.context ?? prompt) - prompt);
  const decode = Number(f.decode ?? 32);
  const { context, vocab, loadSeconds } = await open(before + prompt + decode + 8, Number(f.batch ?? 512));
  const sequence = context.getSequence();
  const all = Array.from({ length: before + prompt }, (_, i) => token(i, vocab));
  const seconds = async (work) => {
    const start = performance.now();
    await work();
    return (performance.now() - start) / 1000;
  };
  await sequence.evaluateWithoutGeneratingNewTokens(all.slice(0, 64));
  await sequence.clearHistory();
  if (before > 0) await sequence.evaluateWithoutGeneratingNewTokens(all.slice(0, before));
  const prefill = await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(all.slice(before)));
  // Straight through the addon, so that no JavaScript between two tokens counts as llama.cpp's.
  const ctx = context._ctx;
  const id = sequence._sequenceId;
  const sampler = new llama._bindings.AddonSampler(context.model._model);
  sampler.applyConfig({ temperature: 0 });
  let at = before + prompt;
  const steps = [];
  for (let i = 0; i < decode; ++i) {
    steps.push(await seconds(async () => {
      ctx.initBatch(1);
      const [index] = ctx.addToBatch(id, at, Uint32Array.of(token(at, vocab)), Uint32Array.of(0));
      await ctx.decodeBatch();
      await ctx.sampleToken(index, sampler);
    }));
    ++at;
  }
  steps.sort((a, b) => a - b);
  say({
    engine: "llama.cpp", file, threads, context: before + prompt, prompt,
    prefill_seconds: prefill, prefill_tokens_per_second: prompt / prefill,
    decode_tokens: decode,
    decode_seconds_median: steps[Math.floor(steps.length / 2)],
    decode_tokens_per_second: 1 / steps[Math.floor(steps.length / 2)],
    decode_best_tokens_per_second: 1 / steps[0],
    load_seconds: loadSeconds,
  });
}

async function logits() {
  const text = f["tokens-file"] ? fs.readFileSync(f["tokens-file"], "utf8") : f.tokens;
  const ids = text.split(/[^0-9]+/).filter((s) => s.length > 0).map(Number);
  const { context, vocab } = await open(ids.length + 8, Number(f.batch ?? 512));
  const sequence = context.getSequence();
  const found = await sequence.controlledEvaluate(
    ids.map((id) => [id, { generateNext: { logits: true, options: { temperature: 0 } } }]));
  const values = new Float32Array(ids.length * vocab).fill(NaN);
  for (let t = 0; t < ids.length; ++t) {
    for (const [id, value] of found[t].next.logits) if (id < vocab) values[t * vocab + id] = value;
  }
  const head = Buffer.from(JSON.stringify({
    __metadata__: { format: "pt" },
    logits: { dtype: "F32", shape: [ids.length, vocab], data_offsets: [0, values.byteLength] },
  }).replace(/$/, "        "));
  const size = Math.floor(head.length / 8) * 8;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(size));
  fs.writeFileSync(f.out, Buffer.concat([length, head.subarray(0, size), Buffer.from(values.buffer)]));
  say({ engine: "llama.cpp", out: f.out, tokens: ids.length, vocab });
}

// One line a text: its number, llama.cpp's ids, whether they are the file's.
async function tokens() {
  const model = await llama.loadModel({ modelPath: file, gpuLayers: 0, vocabOnly: true });
  const cases = JSON.parse(fs.readFileSync(f.cases, "utf8")).cases;
  let equal = 0;
  cases.forEach(({ text, ids }, number) => {
    const own = Array.from(model.tokenize(text, true));
    const same = own.join() === ids.join();
    equal += same;
    say({ number, ids: own, same });
  });
  say({ engine: "llama.cpp", file, texts: cases.length, equal });
}

if (what === "info") {
  say({ engine: "llama.cpp", release: llama.llamaCppRelease, system: llama.systemInfo,
        architectures: ["llama", "qwen2", "qwen3", "qwen3moe", "gemma3", "qwen3next", "kimi-linear"]
          .filter((a) => llama._bindings.getIsArchSupported(a)) });
} else if (what === "speed") {
  await speed();
} else if (what === "logits") {
  await logits();
} else if (what === "tokens") {
  await tokens();
} else {
  process.stderr.write("usage: llama_cpp.mjs info | speed FILE | logits FILE | tokens FILE\n");
  process.exitCode = 2;
}
await llama.dispose();

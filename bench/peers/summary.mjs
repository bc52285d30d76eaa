// The table of a results.jsonl: medians over the rounds, and braid over llama.cpp.

import fs from "node:fs";

const lines = fs.readFileSync(process.argv[2], "utf8").trim().split("\n").map((l) => JSON.parse(l));
const median = (v) => v.sort((a, b) => a - b)[Math.floor(v.length / 2)];
const groups = new Map();
for (const l of lines) {
  if (l.prefill_tokens_per_second === undefined) continue;
  const key = `${l.file} at ${l.context}`;
  if (!groups.has(key)) groups.set(key, { braid: [], "llama.cpp": [] });
  groups.get(key)[l.engine].push(l);
}
const row = (...cells) => console.log("| " + cells.join(" | ") + " |");
row("file, tokens", "prefill braid", "llama.cpp", "ratio", "decode braid", "llama.cpp", "ratio");
row("---", "---", "---", "---", "---", "---", "---");
for (const [key, g] of groups) {
  if (g.braid.length === 0 || g["llama.cpp"].length === 0) continue;
  const rate = (engine, field) => median(g[engine].map((l) => l[field]));
  const p = ["braid", "llama.cpp"].map((e) => rate(e, "prefill_tokens_per_second"));
  const d = ["braid", "llama.cpp"].map((e) => rate(e, "decode_tokens_per_second"));
  row(key, p[0].toFixed(1), p[1].toFixed(1), (p[0] / p[1]).toFixed(2), d[0].toFixed(2), d[1].toFixed(2), (d[0] / d[1]).toFixed(2));
}
for (const l of lines) {
  if (l.agreement) console.log(`${l.agreement}: mean KL ${l.mean_kl.toExponential(2)}, same best token ${(100 * l.top1_agreement).toFixed(1)} %`);
}

// Two files of logits [T, vocab]: mean and largest KL(a || b) and top-1 agreement, as a JSON line.
//
//   node compare_logits.mjs a.safetensors b.safetensors

import fs from "node:fs";

function read(file) {
  const bytes = fs.readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const entry = JSON.parse(bytes.subarray(8, 8 + length).toString()).logits;
  const [begin, end] = entry.data_offsets;
  const data = bytes.buffer.slice(bytes.byteOffset + 8 + length + begin, bytes.byteOffset + 8 + length + end);
  return { shape: entry.shape, values: new Float32Array(data) };
}

function softmax(row) {
  let top = -Infinity;
  for (const v of row) top = Math.max(top, v);
  let sum = 0;
  const p = Float64Array.from(row, (v) => Math.exp(v - top));
  for (const v of p) sum += v;
  return p.map((v) => v / sum);
}

const files = process.argv.slice(2);
for (const file of files) if (!fs.existsSync(file)) { process.stderr.write(`there is no ${file}\n`); process.exit(3); }
const [a, b] = files.map(read);
if (a.shape.join() !== b.shape.join()) throw new Error(`shapes ${a.shape} and ${b.shape} differ`);
const [rows, vocab] = a.shape;
let total = 0, worst = 0, same = 0, furthest = 0;
for (let t = 0; t < rows; ++t) {
  const x = a.values.subarray(t * vocab, (t + 1) * vocab);
  const y = b.values.subarray(t * vocab, (t + 1) * vocab);
  const p = softmax(x), q = softmax(y);
  let kl = 0, bestP = 0, bestQ = 0;
  for (let i = 0; i < vocab; ++i) {
    if (p[i] > 0) kl += p[i] * Math.log(p[i] / q[i]);
    if (p[i] > p[bestP]) bestP = i;
    if (q[i] > q[bestQ]) bestQ = i;
    furthest = Math.max(furthest, Math.abs(x[i] - y[i]));
  }
  total += kl;
  if (!(kl <= worst)) worst = kl;
  same += bestP === bestQ;
}
process.stdout.write(JSON.stringify({ positions: rows, mean_kl: total / rows, largest_kl: worst,
  top1_agreement: same / rows, largest_logit_difference: furthest }) + "\n");

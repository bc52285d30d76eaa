// Renders every template over every conversation with the npm package @huggingface/jinja and writes
// expected.json. Where that package deviates from Python's Jinja (README), the result is taken from
// a file of Python's results, given as the second argument:
//   node make.mjs PATH/TO/node_modules/@huggingface/jinja/dist/index.js python.json
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const { Template } = await import(process.argv[2]);
const python = process.argv[3] ? JSON.parse(readFileSync(process.argv[3])) : {};
const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

// 4 July 2026, noon: what strftime_now sees.
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...given) {
    if (given.length) super(...given);
    else super(2026, 6, 4, 12, 0, 0);
  }
};

const conversations = JSON.parse(read("conversations.json"));
const tools = JSON.parse(read("tools.json"));
const expected = {};
for (const file of readdirSync(new URL("templates", import.meta.url)).sort()) {
  const source = read("templates/" + file);
  const results = (expected[file] = {});
  for (const [name, c] of Object.entries(conversations)) {
    let result;
    try {
      const text = new Template(source).render({
        messages: c.messages,
        tools: c.tools ? tools : null,
        documents: c.documents ?? null,
        add_generation_prompt: c.add_generation_prompt ?? false,
        bos_token: "<s>",
        eos_token: "</s>",
        ...c.extras,
      });
      result = { text };
    } catch (e) {
      result = { error: true };
    }
    const other = python[file]?.[name];
    if (other && (other.text ?? null) !== (result.text ?? null)) {
      result = { ...(other.text === undefined ? { error: true } : { text: other.text }), npm: "differs" };
    }
    results[name] = result;
  }
}
writeFileSync(new URL("expected.json", import.meta.url), JSON.stringify(expected, null, 1) + "\n");

// Writes the folders beside it: tokenizer.json files of the shapes that published models have, and
// what Hugging Face's own tokenizers make of hard texts. README.md says how to run it.
//
//   node make_golden.mjs BASE.json OUT     BASE.json: written by `braid train-tokenizer`
import fs from 'node:fs';
import path from 'node:path';
import { Tokenizer } from 'tokenizers';

const [basePath, out] = process.argv.slice(2);
const base = JSON.parse(fs.readFileSync(basePath, 'utf8'));
const clone = (x) => JSON.parse(JSON.stringify(x));

// ---- texts -------------------------------------------------------------------------------------
const texts = [
  '', ' ', 'a', 'Hello world', ' Hello  world ', "I'm you're WE'LL he'd it's THEY'VE don't",
  "I'\u017F K\u212A '\u017Ft", 'The quick brown fox jumps over the lazy dog.',
  'line one\nline two\r\nline three\n\n\n   indented\n\tTabs\t\there  ', '   \n  \n x', ' \r\n\r\n ',
  '1 12 123 1234 12345 1234567890 3.14159 1,000,000', '\u00BD \u00B2 \u2167 \u0663\u0664\u0665 \u{1D7D8}',
  '你好，世界！这是一个测试。', 'こんにちは世界、カタカナとひらがな。', '안녕하세요 세계', 'Привет, мир! Ёлка.',
  'مرحبا بالعالم', 'नमस्ते दुनिया', 'สวัสดีชาวโลก', 'Ελληνικά ς Σ', 'ÀÉÎõü naïve café ﬁ ﬆ ß ẞ İstanbul ı',
  'e\u0301a\u0308 o\u0302\u0301 \u0301 \u1100\u1161\u11A8 \u212B \u1E9B\u0323',
  '👍 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 👩🏽‍💻 ☺️', 'zero\u200Bwidth\u200Djoin\u200Cer\uFEFFbom \u180E \u00A0nbsp\u3000wide \u2028\u2029\u0085end',
  'nul\u0000byte \u0001\u001F\u007F\u0080\u009F', '\uFFFD \uFFFE \u{10FFFF} \uE000',
  '<s>a</s> <pad> <|im_start|>user\nhi<|im_end|>', '  <|im_end|>  <mask> x<mask>y <mask>.', 'wordtok wordtoken xwordtok wordtok_ (wordtok) Wordtok WORDTOK',
  '<|a|><|a|b|><|a|b', '▁▁ under▁score _ ▁', ' ▁x', 'foo▁ bar', '<0x41><0x0A> <unk> <0xZZ>',
  'def f(x):\n    return x**2 + [i for i in range(10)]  # note\n\n\nif __name__ == "__main__":\n    main()\n',
  '{"key": [1, 2.5, null], "s": "\\u00e9"}', 'https://example.com/a/b?c=d&e=f#g user@mail.example',
  '!!!???...---===___***   ((([[[{{{', '$100 €50 £20 ¥5 + − × ÷ = ≠ ∞ ™ © ®', '“quotes” ‘single’ «guillemets» — – …',
  'CamelCaseWords snake_case_words kebab-case-words SCREAMING_CASE XMLHttpRequest', 'a'.repeat(300), 'ab'.repeat(100) + '語'.repeat(70),
  'x' + ' '.repeat(130) + 'y', '\n'.repeat(40), 'supercalifragilisticexpialidocious'.repeat(3),
  'the of and to in a is that for it was on are as with his they at be this have from or one had by word',
  'aaa aaaa aaaaa b bb bbb', "Ünïcödé ʼn ǆ ǅ", '\u{20000}\u{2A6DF} 〇 々 ー', 'Ⓐⓑ x_y‿z', '\u05E9\u05DC\u05D5\u05DD', 'tab\tsep\x0B\x0C end',
];

// ---- shapes ------------------------------------------------------------------------------------
const split = (regex, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern: { Regex: regex }, behavior, invert });
const sequence = (...pretokenizers) => ({ type: 'Sequence', pretokenizers });
const byteLevel = (use_regex = false, add_prefix_space = false) => ({ type: 'ByteLevel', add_prefix_space, trim_offsets: true, use_regex });
const token = (id, content, o = {}) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...o });
const tail = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const llama3 = contractions + '|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}' + tail;
const qwen = contractions + '|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}' + tail;
const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]', lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const o200k = `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${contractions}?|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${contractions}?` +
  '|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const deepseek = '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const bytesFile = (o) => { const t = clone(base); t.added_tokens = []; Object.assign(t, o); return t; };
const next = Object.keys(base.model.vocab).length;
const template = (ids, ...items) => ({ type: 'TemplateProcessing', single: items.map((i) => i === '$A' ? { Sequence: { id: 'A', type_id: 0 } } : { SpecialToken: { id: i, type_id: 0 } }),
  pair: [], special_tokens: Object.fromEntries(Object.entries(ids).map(([k, v]) => [k, { id: k, ids: [v], tokens: [k] }])) });

// A vocabulary of characters and SentencePiece-like merges, from the words of a text.
function pieces({ bytes, extra = [], unk = '<unk>' }) {
  const vocab = {}, merges = [];
  const add = (s) => { if (!(s in vocab)) vocab[s] = Object.keys(vocab).length; };
  ['<pad>', '</s>', '<s>', unk].forEach(add);
  extra.forEach(add);
  if (bytes) for (let b = 0; b < 256; ++b) add(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
  const words = 'the The of and to in is that for it was on are as with his they at be this have from or one had by word Hello world quick brown fox jumps over lazy dog user line return range test aaaa bb ing tion super cali fragil'.split(' ')
    .concat(['世界', '测试', 'こんにちは', 'Привет', 'мир', 'café', '안녕']);
  for (const w of words) for (const c of '▁' + w) add(c);
  for (const c of "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-_()[]{}:;=+*/\"\n\t") add(c);
  const merge = (a, b) => { if (!merges.some(([x, y]) => x === a && y === b)) { add(a + b); merges.push([a, b]); } };
  merge('▁', '▁'); merge('▁▁', '▁▁'); merge('▁▁', '▁'); merge('▁▁▁▁', '▁▁▁▁');
  for (const w of words) {
    const cs = [...w];
    for (let n = 2; n <= cs.length; ++n) merge(cs.slice(0, n - 1).join(''), cs[n - 1]);
    merge('▁', w);
  }
  merge('▁', 't'); merge('▁t', 'h'); merge('▁th', 'e'); merge('e', 'r'); merge('i', 'n'); merge('in', 'g'); merge('\n', '\n'); merge('\n\n', '\n\n');
  return { vocab, merges };
}
const bpe = (o) => ({ type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, ...o });
const file = (o) => ({ version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...o });
const replace = (from, content) => ({ type: 'Replace', pattern: { String: from }, content });
const decoders = (...d) => ({ type: 'Sequence', decoders: d });
const normalizers = (...n) => ({ type: 'Sequence', normalizers: n });

// A double-array trie of a few characters, as SentencePiece stores them.
function charsmap(entries) {
  const replacements = [], at = {};
  let offset = 0;
  for (const [k, v] of Object.entries(entries)) { at[k] = offset; const b = Buffer.from(v + '\0'); replacements.push(b); offset += b.length; }
  const root = { kids: {} };
  for (const k of Object.keys(entries)) { let n = root; for (const b of Buffer.from(k)) n = n.kids[b] ??= { kids: {} }; n.value = at[k]; }
  const units = new Array(1 << 16).fill(0), used = new Set([0]);
  const place = (node, pos) => {
    const labels = [...(node.value !== undefined ? [0] : []), ...Object.keys(node.kids).map(Number)];
    let o = 1;
    for (; labels.some((l) => used.has(pos ^ o ^ l)) || used.has(pos ^ o); ++o);
    if (o >= 1 << 21) throw new Error('offset');
    labels.forEach((l) => used.add(pos ^ o ^ l));
    used.add(pos ^ o);
    units[pos] = (units[pos] | (o << 10) | (node.value !== undefined ? 1 << 8 : 0)) >>> 0;
    if (node.value !== undefined) units[pos ^ o] = (node.value | 0x80000000) >>> 0;
    for (const [b, kid] of Object.entries(node.kids)) { units[pos ^ o ^ Number(b)] = Number(b); place(kid, pos ^ o ^ Number(b)); }
  };
  place(root, 0);
  const size = (Math.max(...used) | 255) + 1, head = Buffer.alloc(4 + size * 4);
  head.writeUInt32LE(size * 4, 0);
  for (let i = 0; i < size; ++i) head.writeUInt32LE(units[i], 4 + i * 4);
  return Buffer.concat([head, ...replacements]).toString('base64');
}

const sp = pieces({ bytes: true });
const spNoBytes = pieces({ bytes: false });
const spTokens = [token(sp.vocab['<pad>'], '<pad>'), token(sp.vocab['</s>'], '</s>'), token(sp.vocab['<s>'], '<s>'), token(sp.vocab['<unk>'], '<unk>')];
// Without the special tokens, by id.
const ordered = (vocab) => Object.entries(vocab).sort((a, b) => a[1] - b[1]).map(([k]) => k).slice(4);
const unigramVocab = [['<unk>', 0], ['<s>', 0], ['</s>', 0], ...ordered(spNoBytes.vocab).map((k, i) => [k, -3 - Math.log(i + 2) - 0.5 / [...k].length])];

const shapes = {
  gpt2: bytesFile({ pre_tokenizer: byteLevel(true), added_tokens: [token(next, '<|endoftext|>')] }),
  gpt2_prefix_space: bytesFile({ pre_tokenizer: byteLevel(true, true), post_processor: { type: 'RobertaProcessing', sep: ['</s>', next + 1], cls: ['<s>', next], trim_offsets: true, add_prefix_space: true },
    added_tokens: [token(next, '<s>'), token(next + 1, '</s>'), token(next + 2, '<mask>', { lstrip: true })] }),
  llama3: bytesFile({ pre_tokenizer: sequence(split(llama3), byteLevel()), model: { ...clone(base.model), ignore_merges: true },
    post_processor: { type: 'Sequence', processors: [{ type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true }, template({ '<s>': next }, '<s>', '$A')] },
    added_tokens: [token(next, '<s>'), token(next + 1, '<|a|>'), token(next + 2, '<|a|b|>'), token(next + 3, '</s>')] }),
  qwen: bytesFile({ normalizer: { type: 'NFC' }, pre_tokenizer: sequence(split(qwen), byteLevel()), post_processor: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    added_tokens: [token(next, '<|im_start|>'), token(next + 1, '<|im_end|>'), token(next + 2, '<pad>', { special: false })] }),
  o200k: bytesFile({ pre_tokenizer: sequence(split(o200k), byteLevel()), added_tokens: [token(next, '<|im_start|>', { rstrip: true }), token(next + 1, '<|im_end|>', { lstrip: true })] }),
  deepseek: bytesFile({ normalizer: normalizers(), pre_tokenizer: sequence(split('\\p{N}{1,3}'), split('[一-龥\u3040-ゟ゠-ヿ]+'), split(deepseek), byteLevel()),
    added_tokens: [token(next, '<s>'), token(next + 1, 'wordtok', { special: false, single_word: true })] }),
  gemma: file({ normalizer: replace(' ', '▁'), pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
    decoder: decoders(replace('▁', ' '), { type: 'ByteFallback' }, { type: 'Fuse' }), post_processor: template({ '<s>': sp.vocab['<s>'] }, '<s>', '$A'),
    model: bpe({ unk_token: '<unk>', fuse_unk: true, byte_fallback: true, ...sp }), added_tokens: [...spTokens, token(Object.keys(sp.vocab).length, '<|im_start|>')] }),
  llama2: file({ normalizer: normalizers({ type: 'Prepend', prepend: '▁' }, replace(' ', '▁')),
    decoder: decoders(replace('▁', ' '), { type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }), post_processor: template({ '<s>': sp.vocab['<s>'], '</s>': sp.vocab['</s>'] }, '<s>', '$A', '</s>'),
    model: bpe({ unk_token: '<unk>', fuse_unk: true, byte_fallback: true, ...sp, merges: sp.merges.filter((m) => !m.join('').includes('\n')).map((m) => m.join(' ')) }), added_tokens: spTokens }),
  metaspace_first: file({ pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false }, decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false },
    model: bpe({ unk_token: '<unk>', fuse_unk: false, byte_fallback: false, ...spNoBytes }), added_tokens: [token(1, '</s>'), token(2, '<s>'), token(3, '<unk>'), token(Object.keys(spNoBytes.vocab).length, '<mask>', { lstrip: true, rstrip: true, normalized: true })] }),
  unigram: file({ normalizer: normalizers({ type: 'Precompiled', precompiled_charsmap: charsmap({ 'ﬁ': 'fi', '①': '1', 'Å': 'Å', '\u00A0': ' ', '\u3000': ' ', '½': '1/2', 'e\u0301': 'é', 'x': 'x', '\t': ' ' }) }, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }),
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true }, decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true },
    post_processor: template({ '</s>': 2 }, '$A', '</s>'), model: { type: 'Unigram', unk_id: 0, vocab: unigramVocab, byte_fallback: false }, added_tokens: [token(0, '<unk>'), token(1, '<s>'), token(2, '</s>')] }),
  unigram_bytes: file({ normalizer: normalizers({ type: 'NFKC' }, { type: 'Lowercase' }), pre_tokenizer: sequence({ type: 'Digits', individual_digits: true }, { type: 'Punctuation', behavior: 'Isolated' }, { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true }),
    decoder: decoders({ type: 'ByteFallback' }, { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true }),
    model: { type: 'Unigram', unk_id: 0, byte_fallback: true, vocab: [['<unk>', 0], ...ordered(sp.vocab).map((k, i) => [k, -2 - 0.01 * i])] }, added_tokens: [token(0, '<unk>')] }),
  bert: file({ normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true }, pre_tokenizer: { type: 'BertPreTokenizer' }, decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', 2], cls: ['[CLS]', 1] }, added_tokens: [token(0, '[UNK]'), token(1, '[CLS]'), token(2, '[SEP]'), token(3, '[mask]', { normalized: true })],
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100,
      vocab: Object.fromEntries(['[UNK]', '[CLS]', '[SEP]', '[mask]', ..."abcdefghijklmnopqrstuvwxyz0123456789.,!?'".split(''), ..."abcdefghijklmnopqrstuvwxyz".split('').map((c) => '##' + c), 'hello', 'world', 'the', 'quick', '##ing', 'don', 'fo', '##x', '世', '界', 'мир', 'cafe', 'do', 'not'].filter((v, i, a) => a.indexOf(v) === i).map((v, i) => [v, i])) } }),
  words: file({ normalizer: normalizers({ type: 'Strip', strip_left: true, strip_right: true }, { type: 'NFD' }, { type: 'StripAccents' }, { type: 'NFKD' }), pre_tokenizer: { type: 'Whitespace' },
    model: { type: 'WordLevel', unk_token: '<unk>', vocab: Object.fromEntries('<unk> the Hello world of cafe naive x y . , ! ?? !!!???...---===___*** ((([[[{{{ 1 12 123 line one Ünicode'.split(' ').map((v, i) => [v, i])) }, added_tokens: [token(0, '<unk>')] }),
  end_of_word: file({ normalizer: { type: 'Lowercase' }, pre_tokenizer: sequence({ type: 'WhitespaceSplit' }, split('\\p{P}', 'MergedWithNext')), decoder: { type: 'BPEDecoder', suffix: '</w>' },
    model: bpe({ unk_token: '<unk>', fuse_unk: true, end_of_word_suffix: '</w>', vocab: Object.fromEntries(['<unk>', ...'abcdefghijklmnopqrstuvwxyz', ...[...'abcdefghijklmnopqrstuvwxyz.'].map((c) => c + '</w>'), 'th', 'the</w>', 'he</w>', 'wo', 'wor', 'worl', 'world</w>', 'or', 'aa', 'aa</w>'].map((v, i) => [v, i])),
      merges: [['t', 'h'], ['th', 'e</w>'], ['h', 'e</w>'], ['w', 'o'], ['wo', 'r'], ['wor', 'l'], ['worl', 'd</w>'], ['o', 'r'], ['a', 'a'], ['a', 'a</w>']] }), added_tokens: [token(0, '<unk>', { special: false })] }),
  continuing: file({ pre_tokenizer: sequence({ type: 'WhitespaceSplit' }, { type: 'Digits', individual_digits: false }, { type: 'Punctuation', behavior: 'Contiguous' }), decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
    model: bpe({ continuing_subword_prefix: '##', vocab: Object.fromEntries([...'abcdefghijklmnopqrstuvwxyzT123', ...[...'abcdefghijklmnopqrstuvwxyz123'].map((c) => '##' + c), 'th', 'the', '##he', '##or', 'wor', '##ld', 'world', '12', '##23'].map((v, i) => [v, i])),
      merges: [['t', '##h'], ['th', '##e'], ['##h', '##e'], ['##o', '##r'], ['w', '##or'], ['##l', '##d'], ['wor', '##ld'], ['1', '##2'], ['##2', '##3']] }) }),
  added: bytesFile({ normalizer: normalizers({ type: 'Lowercase' }, replace('zz', 'z')), pre_tokenizer: sequence(split('\\s+', 'MergedWithPrevious'), split('[a-c]+', 'Removed', false), byteLevel()),
    added_tokens: [token(next, '<s>', { normalized: true }), token(next + 1, '<mask>', { lstrip: true, rstrip: true }), token(next + 2, 'wordtok', { single_word: true, normalized: true, special: false }), token(next + 3, '<|a|>'), token(next + 4, '<|a|b|>', { single_word: true }),
      token(next + 5, 'fox', { normalized: true, special: false }), token(next + 6, '<|im_end|>', { lstrip: true, normalized: true }), token(next + 7, ' <pad>', { special: false })] }),
  splits: bytesFile({ pre_tokenizer: sequence(split('\\d', 'MergedWithNext'), split('[[:punct:]]+', 'Contiguous', true), split('\\w+', 'Isolated'), split('[\\p{L}&&[^aeiou]]+', 'MergedWithPrevious'), split('(?i:x|THE)', 'Removed'), split('^\\h+|e$', 'Isolated'), byteLevel()) }),
};

// ---- what the reference makes of them ------------------------------------------------------------
for (const [name, json] of Object.entries(shapes)) {
  const text = JSON.stringify(json);
  const t = Tokenizer.fromString(text);
  const cases = [];
  for (const s of texts) {
    if (name === 'unigram_bytes' && s.startsWith('\u00BD')) continue;  // README.md
    const plain = (await t.encode(s, null, { addSpecialTokens: false })).getIds();
    const full = (await t.encode(s, null, { addSpecialTokens: true })).getIds();
    const c = { text: s, ids: plain };
    if (JSON.stringify(full) !== JSON.stringify(plain)) c.with_special = full;
    c.decoded = await t.decode(full, false);
    const skipped = await t.decode(full, true);
    if (skipped !== c.decoded) c.skipped = skipped;
    cases.push(c);
  }
  // Ids in any order, so that tokens are cut in the middle of characters.
  const decodes = [];
  const size = Math.max(...Object.values(t.getVocab(true))) + 1;
  let seed = 12345;
  const random = (n) => { seed = (seed * 1103515245 + 12345) & 0x7fffffff; return (seed >> 8) % n; };
  for (let i = 0; i < 20; ++i) {
    const ids = Array.from({ length: 1 + random(14) }, () => random(i % 2 ? Math.min(size, 320) : size));
    decodes.push({ ids, text: await t.decode(ids, i % 3 === 0), skip: i % 3 === 0 });
  }
  const folder = path.join(out, name);
  fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(path.join(folder, 'tokenizer.json'), text + '\n');
  fs.writeFileSync(path.join(folder, 'cases.json'), JSON.stringify({ cases, decodes }) + '\n');
}

// Whole tokenizers: what the goldens cannot say.

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/rng.h"
#include "braid/testing/golden.h"
#include "braid/testing/scratch_folder.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/tiktoken.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {
namespace {

std::string golden_json(const std::string& name) {
  for (const std::string& folder : testing::golden_folders("tokenizers", "cases.json")) {
    if (file_name(folder) == name) return read_file(join_path(folder, "tokenizer.json"));
  }
  FAIL("no golden tokenizer " << name);
  return {};
}

std::string random_bytes(uint64_t seed, size_t n) {
  // Mostly ASCII with spaces and line ends, some of everything.
  constexpr std::string_view kUsual = "etaoin shrdlu \n\r\t'0123.,<|>";
  const Rng rng(seed, "bytes");
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    const uint64_t r = rng.bits(i);
    out += r % 4 != 0 ? kUsual[r / 8 % kUsual.size()] : static_cast<char>(r >> 32);
  }
  return out;
}

std::string error_of(const std::string& json, const std::string& config = "") {
  try {
    parse_tokenizer_json(json, config);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    return e.what();
  }
  return "";
}

TEST_CASE("byte-level vocabularies give every byte back, UTF-8 or not") {
  for (const char* name : {"gpt2", "llama3", "o200k", "deepseek"}) {
    const auto t = parse_tokenizer_json(golden_json(name));
    for (uint64_t seed = 0; seed < 40; ++seed) {
      const std::string text = random_bytes(seed, 1 + seed * 13);
      CHECK(t->decode_bytes(t->encode(text, {.add_special_tokens = false})) == text);
    }
  }
}

TEST_CASE("byte fallback gives every byte back where spaces stay") {
  const auto t = parse_tokenizer_json(golden_json("gemma"));
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const std::string text = random_bytes(seed, 1 + seed * 13);
    CHECK(t->decode_bytes(t->encode(text, {.add_special_tokens = false})) == text);
  }
}

TEST_CASE("a stream only ever appends, for any ids") {
  for (const std::string& folder : testing::golden_folders("tokenizers", "cases.json")) {
    CAPTURE(folder);
    const auto t = load_tokenizer(folder);
    const auto size = static_cast<uint64_t>(t->vocab_size());
    for (uint64_t seed = 0; seed < 20; ++seed) {
      std::vector<int32_t> ids;
      StreamDecoder stream(*t, false);
      std::string streamed;
      for (uint64_t i = 0; i < 40; ++i) {
        ids.push_back(static_cast<int32_t>(Rng(seed, 3).below(i, size)));
        streamed += stream.push(ids.back());
        // What is out is a prefix of what the whole becomes.
        REQUIRE(t->decode(ids).substr(0, streamed.size()) == streamed);
      }
      CHECK(streamed + stream.finish() == t->decode(ids));
    }
  }
}

TEST_CASE("special tokens in untrusted text stay text") {
  const auto t = parse_tokenizer_json(golden_json("llama3"));
  const std::string text = "<s>ignore<|a|> this</s>";
  const EncodeOptions untrusted{.add_special_tokens = false, .allow_special = false};
  const std::vector<int32_t> ids = t->encode(text, untrusted);
  for (const int32_t id : ids) CHECK_FALSE(t->is_special(id));
  CHECK(t->decode(ids) == text);
  CHECK(t->is_special(t->encode(text, {.add_special_tokens = false})[0]));
}

TEST_CASE("no vocabulary turns untrusted text into a special token") {
  for (const std::string& folder : testing::golden_folders("tokenizers", "cases.json")) {
    CAPTURE(folder);
    const auto t = load_tokenizer(folder);
    const int32_t unk = t->token_to_id("<unk>").value_or(t->token_to_id("[UNK]").value_or(-1));
    std::string text = "<s>a</s> <s> </s> <mask>";
    for (const int32_t id : t->special_ids()) text += *t->id_to_token(id);
    for (const int32_t id :
         t->encode(text, {.add_special_tokens = false, .allow_special = false})) {
      CHECK((id == unk || !t->is_special(id)));
    }
  }
}

TEST_CASE("unknown components are named") {
  const auto with = [](const char* key, const char* value) {
    return format(R"({{"{}": {}, "model": {{"type":"BPE","vocab":{{"a":0}},"merges":[]}}}})", key,
                  value);
  };
  CHECK(error_of(with("normalizer", R"({"type":"Nmt"})")) ==
        "normalizer: normalizer 'Nmt' is not known");
  CHECK(error_of(with("pre_tokenizer", R"({"type":"Sequence","pretokenizers":[{"type":"Foo"}]})"))
            .find("'Foo'") != std::string::npos);
  CHECK(error_of(with("decoder", R"({"type":"CTC"})")).find("'CTC'") != std::string::npos);
  CHECK(error_of(with("post_processor", R"({"type":"Bar"})")).find("'Bar'") != std::string::npos);
  CHECK(error_of(R"({"model":{"type":"Baz"}})").find("'Baz'") != std::string::npos);
}

TEST_CASE("files that contradict themselves are refused with both values") {
  CHECK(error_of(R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})") ==
        "model: tokens 'a' and 'b' have the same id 0");
  CHECK(
      error_of(R"({"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]}})").find("'ab'") !=
      std::string::npos);
  CHECK(error_of(R"({"model":{"type":"BPE","vocab":{"a":99999999999},"merges":[]}})")
            .find("16777215") != std::string::npos);
  CHECK(error_of(R"({"added_tokens":[{"id":0,"content":"x","special":true}],
                     "model":{"type":"BPE","vocab":{"a":0},"merges":[]}})")
            .find("'a'") != std::string::npos);
  CHECK(
      error_of(R"({"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":1}})").find("unk_id 1") !=
      std::string::npos);
}

TEST_CASE("Llama's class decides by its flags what stands around a text, others by the file") {
  const std::string json = golden_json("llama2");
  const auto flags = [&](const char* config) {
    return parse_tokenizer_json(json, config)->encode("a");
  };
  const auto plain = parse_tokenizer_json(json)->encode("a");
  REQUIRE(plain.size() == 4);
  const int32_t bos = plain[0], space = plain[1], a = plain[2], eos = plain[3];
  CHECK(
      flags(
          R"({"tokenizer_class":"PreTrainedTokenizerFast","add_bos_token":false,"bos_token":"<s>"})") ==
      plain);
  CHECK(
      flags(
          R"({"tokenizer_class":"LlamaTokenizerFast","bos_token":"<s>","eos_token":{"content":"</s>"}})") ==
      std::vector<int32_t>{bos, space, a});
  CHECK(
      flags(
          R"({"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","eos_token":"</s>","add_bos_token":false,"add_eos_token":true})") ==
      std::vector<int32_t>{space, a, eos});
  const auto t = parse_tokenizer_json(json, R"({"bos_token":"<s>","eos_token":"</s>"})");
  CHECK(t->named().bos == bos);
  CHECK(t->bos_token() == "<s>");
  CHECK(t->named().eos == eos);
  CHECK_FALSE(t->named().pad.has_value());
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view k = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t v = 0;
    for (size_t j = 0; j < 3; ++j) {
      v = v << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    }
    for (size_t j = 0; j < 4; ++j) out += j > bytes.size() - i ? '=' : k[v >> (18 - 6 * j) & 63];
  }
  return out;
}

TEST_CASE("tiktoken.model: ranks, special tokens from the config, the folder") {
  std::string model;
  int rank = 0;
  const auto add = [&](std::string_view token) {
    model += format("{} {}\n", base64(token), rank++);
  };
  for (int b = 0; b < 256; ++b) add(std::string(1, static_cast<char>(b)));
  for (const char* token : {"he", "ll", "hell", "lo", "hello", " w", "\xE4\xBD\xA0"}) add(token);
  const testing::ScratchFolder folder("tiktoken");
  write_file(folder / "tiktoken.model", model);
  write_file(
      folder / "tokenizer_config.json",
      R"({"bos_token":"[BOS]","added_tokens_decoder":{"263":{"content":"[BOS]","special":true},
                 "265":{"content":"<|im_end|>","special":true}}})");
  const auto t = load_tokenizer(folder.path());
  CHECK(t->vocab_size() == 263 + 256);
  CHECK(t->named().bos == 263);
  CHECK(t->token_to_id("<|reserved_token_264|>") == 264);
  // "hellos" merges he, ll, hell, hello; "lo" comes too late.
  CHECK(t->encode("hello\xE4\xBD\xA0<|im_end|> w") == std::vector<int32_t>{260, 262, 265, 261});
  CHECK(t->encode("hellos") == std::vector<int32_t>{260, 's'});
  CHECK(t->decode(t->encode("hellos \xE4\xBD\xA0!")) == "hellos \xE4\xBD\xA0!");
  CHECK_THROWS_AS(parse_tiktoken("YQ== 0\n", ""), Error);
  CHECK_THROWS_AS(parse_tiktoken(model + "YQ== 900\n", ""), Error);
  CHECK_THROWS_AS(parse_tiktoken(model + "Y!Q== 900\n", ""), Error);
}

TEST_CASE("a GGUF's byte-level vocabulary encodes as the tokenizer.json it was made from") {
  const Json json = Json::parse(golden_json("qwen"));
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "qwen2";
  v.tokens.resize(643);
  v.types.assign(643, 1);
  for (const Json::Member& m : json.at("model").at("vocab").members()) {
    v.tokens[static_cast<size_t>(m.value.as_int())] = m.key;
  }
  for (const Json& m : json.at("model").at("merges").elements()) {
    v.merges.push_back(m.elements()[0].as_string() + " " + m.elements()[1].as_string());
  }
  for (const Json& m : json.at("added_tokens").elements()) {
    const auto id = static_cast<size_t>(m.at("id").as_int());
    v.tokens[id] = m.at("content").as_string();
    v.types[id] = m.at("special").as_bool() ? 3 : 4;
  }
  v.bos = 640;
  const auto gguf = tokenizer_from_gguf(v);
  const auto original = parse_tokenizer_json(golden_json("qwen"));
  const std::string text =
      "<|im_start|>user\nHello 123 w\xC3\xB6rld  \xE4\xBD\xA0\xE5\xA5\xBD<|im_end|><pad>";
  CHECK(gguf->encode(text) == original->encode(text));
  CHECK(gguf->special_ids() == original->special_ids());
  v.add_bos = true;
  CHECK(tokenizer_from_gguf(v)->encode("a")[0] == 640);
  v.pre = "nobody";
  CHECK_THROWS_WITH_AS(tokenizer_from_gguf(v), "tokenizer.ggml.pre 'nobody' is not known", Error);
}

// The pieces that a pre-tokenizer of that name leaves of a text: all of a piece may merge.
std::vector<std::string> cut_as(const char* pre, const std::string& text) {
  GgufVocabulary v;
  v.model = "gpt2";
  v.pre = pre;
  std::set<std::string> known;
  for (const std::string_view c : byte_characters()) {
    v.tokens.emplace_back(c);
    known.emplace(c);
  }
  const auto mapped = [&](size_t from, size_t to) {
    std::string out;
    for (; from < to; ++from) out += byte_characters()[static_cast<uint8_t>(text[from])];
    return out;
  };
  for (size_t length = 2; length <= text.size(); ++length) {
    for (size_t from = 0; from + length <= text.size(); ++from) {
      const std::string whole = mapped(from, from + length);
      if (!known.insert(whole).second) continue;
      v.tokens.push_back(whole);
      for (size_t at = from + 1; at < from + length; ++at)
        v.merges.push_back(mapped(from, at) + " " + mapped(at, from + length));
    }
  }
  const auto tokenizer = tokenizer_from_gguf(v);
  std::vector<std::string> out;
  for (const int32_t id : tokenizer->encode(text)) out.push_back(tokenizer->decode({&id, 1}));
  return out;
}

TEST_CASE("names of pre-tokenizers cut as llama.cpp does") {
  using Pieces = std::vector<std::string>;
  const std::string text = "Ab's  !? 12345\n\nc";
  CHECK(cut_as("gpt-2", text) == Pieces{"Ab", "'s", " ", " !?", " 12345", "\n", "\n", "c"});
  for (const char* unnamed : {"default", ""})
    CHECK(cut_as(unnamed, text) ==
          Pieces{"Ab", "'", "s", "  ", "!?", " ", "123", "45", "\n", "\n", "c"});
  CHECK(cut_as("default", "a`b$") == Pieces{"a", "`", "b", "$"});
  CHECK(cut_as("falcon", text) ==
        Pieces{"Ab", "'", "s", "  ", "!?", " ", "123", "45", "\n", "\n", "c"});
  CHECK(cut_as("default", " `") == Pieces{" `"});
  CHECK(cut_as("falcon", " `") == Pieces{" ", "`"});
  CHECK(cut_as("falcon", "x 12") == Pieces{"x", " 12"});
  CHECK(cut_as("default", "x 12") == Pieces{"x", " ", "12"});
  CHECK(cut_as("smollm", text) ==
        Pieces{"Ab", "'s", " ", " !?", " ", "1", "2", "3", "4", "5", "\n", "\n", "c"});
  CHECK(cut_as("bailingmoe", "a\n\n12") == Pieces{"a", "\n\n", "1", "2"});
  CHECK(cut_as("seed-coder", "a!\n\nb") == Pieces{"a", "!", "\n\n", "b"});
  CHECK(cut_as("qwen2", "a!\n\nb") == Pieces{"a", "!\n\n", "b"});
  CHECK(cut_as("tiny_aya", "1234567") == Pieces{"1", "234", "567"});
  CHECK(cut_as("gpt-4o", "1234567") == Pieces{"123", "456", "7"});
  CHECK(cut_as("exaone-moe", "a b 1") == Pieces{"a b", " ", "1"});
  CHECK(cut_as("minicpm5", "a 1234") == Pieces{"a", " ", "123", "4"});
  CHECK(cut_as("jais-2", "a     b") == Pieces{"a", "    ", " b"});
  CHECK(cut_as("laguna", "a!\nb") == Pieces{"a", "!", "\n", "b"});
  CHECK(cut_as("bloom", "a1, b") == Pieces{"a1", ",", " b"});
  CHECK(cut_as("viking", "a1, b") == Pieces{"a", "1", ",", " b"});
  CHECK(cut_as("deepseek-coder", "a, b\n12") == Pieces{"a", ",", " b", "\n", "1", "2"});
}

TEST_CASE("a GGUF's vocabulary with scores merges the highest first") {
  GgufVocabulary v;
  v.model = "llama";
  const auto add = [&](std::string token, float score, int32_t type) {
    v.tokens.push_back(std::move(token));
    v.scores.push_back(score);
    v.types.push_back(type);
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  for (int b = 0; b < 256; ++b) add(format("<0x{:02X}>", b), 0, 6);
  for (const char* token : {"\xE2\x96\x81", "a", "b"}) add(token, -1000, 1);
  add("ab", -2, 1);
  add("ba", -1, 1);
  add("\xE2\x96\x81"
      "a",
      -3, 1);
  v.bos = 1;
  v.unk = 0;
  const auto t = tokenizer_from_gguf(v);
  const int32_t space = 259, a = 260, ab = 262, ba = 263, space_a = 264;
  CHECK(t->encode("aba") == std::vector<int32_t>{1, space_a, ba});
  CHECK(t->encode("ab") == std::vector<int32_t>{1, space, ab});
  CHECK(t->encode("a\n") == std::vector<int32_t>{1, space_a, 3 + '\n'});
  CHECK(t->decode(t->encode("ab a\n\xE4\xBD\xA0"), true) == "ab a\n\xE4\xBD\xA0");
  v.add_space_prefix = false;
  CHECK(tokenizer_from_gguf(v)->encode("a") == std::vector<int32_t>{1, a});
}

TEST_CASE("a folder without a tokenizer is the caller's to judge") {
  const testing::ScratchFolder folder("no_tokenizer");
  CHECK(load_tokenizer(folder.path()) == nullptr);
  write_file(folder / "tokenizer.json", "{");
  CHECK_THROWS_AS(load_tokenizer(folder.path()), Error);
}

}  // namespace
}  // namespace braid

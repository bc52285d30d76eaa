#include "braid/importers/gguf_tokenizer.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/testing/golden.h"
#include "braid/testing/scratch_folder.h"
#include "braid/text/tokenizer/known_regexes.h"

namespace braid {
namespace {

using testing::ScratchFolder;

Json split(std::string_view regex, const char* behavior = "Isolated") {
  Json pattern = Json::object(), p = Json::object();
  pattern.set("Regex", std::string(regex));
  p.set("type", "Split");
  p.set("pattern", std::move(pattern));
  p.set("behavior", behavior);
  p.set("invert", false);
  return p;
}

const char* const kByteLevel = R"({"type":"ByteLevel","use_regex":false})";

struct Written {
  GgufFile file;
  std::vector<std::string> notes;
  std::string pre() const { return file.string("tokenizer.ggml.pre").value_or("none"); }
};

// A tokenizer.json of a, b, c, ab, abc, as its GGUF file.
Written written(const ScratchFolder& scratch, const std::string& pre, const std::string& merges,
                const char* more = "") {
  write_file(scratch / "tokenizer.json",
             R"({"pre_tokenizer":)" + pre +
                 R"(,"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"abc":4},"merges":)" +
                 merges + more + "}}");
  GgufModel m;
  m.arch = "llama";
  m.vocab = 5;
  GgufWriter w;
  std::vector<std::string> notes;
  put_tokenizer(w, scratch.path(), m, notes);
  w.write(scratch / "t.gguf");
  return {GgufFile::open(scratch / "t.gguf"), notes};
}

std::string sequence(std::initializer_list<std::string> parts) {
  std::string out;
  for (const std::string& p : parts) out += (out.empty() ? "" : ",") + p;
  return R"({"type":"Sequence","pretokenizers":[)" + out + "]}";
}

TEST_CASE("a pre-tokenizer gets the name of what cuts text as it does, or none with a note") {
  const ScratchFolder scratch("gguf_pre");
  const auto name = [&](const std::string& pre, const char* more = R"(,"ignore_merges":true)") {
    const Written w = written(scratch, pre, R"(["a b"])", more);
    CHECK(w.notes.size() == (w.pre() == "default" ? 1 : 0));
    return w.pre();
  };
  CHECK(name(R"({"type":"ByteLevel"})") == "gpt-2");
  const std::string llama3 = split(kLlama3Regex).dump(), digits = split(kDigits3Regex).dump();
  CHECK(name(sequence({llama3, kByteLevel})) == "llama-bpe");
  CHECK(name(sequence({llama3, kByteLevel}), "") == "smaug-bpe");
  CHECK(name(sequence({R"({"type":"Digits","individual_digits":true})",
                       R"({"type":"ByteLevel"})"})) == "smollm");
  CHECK(name(sequence({split(kO200kRegex).dump(), kByteLevel})) == "gpt-4o");
  CHECK(name(sequence({sequence({llama3}), kByteLevel})) == "llama-bpe");
  CHECK(name(sequence({llama3, R"({"type":"ByteLevel"})"})) == "default");
  CHECK(name(sequence({llama3, digits, kByteLevel})) == "default");
  CHECK(name(sequence({digits, llama3, kByteLevel})) == "default");
  CHECK(name(sequence({llama3, R"({"type":"Punctuation"})", kByteLevel})) == "default");
  CHECK(name(sequence({split(kLlama3Regex, "MergedWithNext").dump(), kByteLevel})) == "default");
  CHECK(name(kByteLevel) == "default");
}

TEST_CASE("merges that are not two tokens are bad input") {
  const ScratchFolder scratch("gguf_merges");
  for (const char* pre : {R"({"type":"ByteLevel"})", "null"}) {
    for (const char* merge : {R"("ab")", R"("")", R"(" b")", R"("a ")", R"("a b c")", "[]",
                              R"(["a"])", R"(["a b","c"])", R"(["a",1])", "7"}) {
      CAPTURE(merge);
      std::string what;
      try {
        written(scratch, pre, std::string("[\"a b\",") + merge + "]");
      } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::kBadInput);
        what = e.what();
      }
      CHECK(what.find("tokenizer.json: merge 1 is ") != std::string::npos);
    }
  }
}

TEST_CASE("scores: earlier merges first, what no merge makes below the last") {
  const ScratchFolder scratch("gguf_scores");
  const Written w = written(scratch, "null", R"(["a b",["ab","c"]])");
  const GgufValue& scores = w.file.at("tokenizer.ggml.scores");
  REQUIRE(scores.size() == 5);
  CHECK(scores.real_at(3) > scores.real_at(4));
  for (size_t i = 0; i < 3; ++i) CHECK(scores.real_at(i) < scores.real_at(4));
}

// A folder's tokenizer as a GGUF file of as many rows.
GgufFile as_gguf(const std::string& folder, int64_t rows, const std::string& path) {
  GgufModel m;
  m.arch = "llama";
  m.vocab = rows;
  GgufWriter w;
  std::vector<std::string> notes;
  put_tokenizer(w, folder, m, notes);
  w.write(path);
  return GgufFile::open(path);
}

std::string written_folder(const GgufFile& file, const std::string& folder) {
  make_folders(folder);
  const auto files = gguf_tokenizer_files(file);
  REQUIRE(files);
  write_tokenizer_files(*files, folder);
  return folder;
}

constexpr const char* kConfig = R"({"bos_token":"<s>","eos_token":{"content":"</s>"},
    "unk_token":"<unk>","pad_token":"<pad>","chat_template":"{{ messages[0] }}"})";

// The same file as other writers make it, without the whole tokenizer.json.
GgufFile without_json(const GgufFile& file, const std::string& path) {
  GgufWriter w;
  for (const auto& [key, value] : file.values())
    if (key != kTokenizerJson) w.set(key, value);
  w.write(path);
  return GgufFile::open(path);
}

int64_t equal_texts(const Tokenizer& t, const Json& cases) {
  int64_t equal = 0;
  for (const Json& c : cases.at("cases").elements()) {
    Json got = Json::array();
    for (const int32_t id : t.encode(c.at("text").as_string())) got.push(id);
    equal += got == (c.find("with_special") != nullptr ? c.at("with_special") : c.at("ids"));
  }
  return equal;
}

// Of the texts, how many encode as in Hugging Face's library on the folder's own tokenizer.json
// when the file has the keys alone. The rest GGUF has no words for (docs/howto/checkpoints.md):
// tokens that take white space (o200k) or are no part of words (deepseek), and merges where there
// are only scores. llama.cpp makes the same ids of all texts but the two that NFC changes (qwen).
struct FromKeys {
  const char* name;
  int64_t lost;
};
constexpr FromKeys kFromKeys[] = {{"gpt2", 0},     {"llama3", 0}, {"qwen", 0},   {"o200k", 1},
                                  {"deepseek", 1}, {"gemma", 10}, {"llama2", 11}};

TEST_CASE("a vocabulary encodes as before on its way through GGUF and back") {
  for (const FromKeys& shape : kFromKeys) {
    CAPTURE(shape.name);
    const std::string golden = testing::golden_path(format("tokenizers/{}", shape.name));
    const ScratchFolder scratch("gguf_back");
    const std::string from = scratch / "from";
    make_folders(from);
    write_file(join_path(from, "tokenizer.json"), read_file(join_path(golden, "tokenizer.json")));
    write_file(join_path(from, "tokenizer_config.json"), kConfig);
    const int64_t rows = load_tokenizer(golden)->vocab_size() + 3;
    const GgufFile file = as_gguf(from, rows, scratch / "a.gguf");
    const Json cases = Json::parse(read_file(join_path(golden, "cases.json")));
    const int64_t texts = std::ssize(cases.at("cases").elements());
    const auto direct = gguf_tokenizer(file);
    const auto back = load_tokenizer(written_folder(file, scratch / "back"));
    CHECK(equal_texts(*direct, cases) == texts);
    CHECK(equal_texts(*back, cases) == texts);
    CHECK(read_file(scratch / "back/tokenizer.json") ==
          read_file(join_path(from, "tokenizer.json")));
    CHECK(direct->named().eos == back->named().eos);
    CHECK(direct->eos_token() == load_tokenizer(from)->eos_token());

    const GgufFile keys = without_json(file, scratch / "keys.gguf");
    const auto rebuilt = gguf_tokenizer(keys);
    const std::string folder = written_folder(keys, scratch / "rebuilt");
    const auto written = load_tokenizer(folder);
    CHECK(equal_texts(*rebuilt, cases) == texts - shape.lost);
    for (const Json& c : cases.at("cases").elements()) {
      const std::string& text = c.at("text").as_string();
      CAPTURE(c.at("text").dump());
      const std::vector<int32_t> ids = rebuilt->encode(text);
      CHECK(written->encode(text) == ids);
      CHECK(written->decode(ids, true) == rebuilt->decode(ids, true));
    }
    // Once more through GGUF: the same keys and values.
    const GgufFile again = as_gguf(folder, rows, scratch / "b.gguf");
    REQUIRE(again.values().size() == file.values().size());
    for (const auto& [key, value] : keys.values()) {
      CAPTURE(key);
      REQUIRE(again.find(key) != nullptr);
      // Scores become ranks, which order ties.
      if (key != "tokenizer.ggml.scores") CHECK(again.at(key).json() == value.json());
    }
    CHECK(Json::parse(read_file(join_path(folder, "tokenizer_config.json"))).at("chat_template") ==
          Json("{{ messages[0] }}"));
  }
}

TEST_CASE("a class that follows flags is written as a post-processor that does") {
  const ScratchFolder scratch("gguf_flags");
  write_file(scratch / "tokenizer.json",
             R"({"model":{"type":"BPE","vocab":{"a":0,"<s>":1,"</s>":2},"merges":[]},
                 "added_tokens":[{"id":1,"content":"<s>","special":true},
                                 {"id":2,"content":"</s>","special":true}]})");
  write_file(scratch / "tokenizer_config.json",
             R"({"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","eos_token":"</s>",
                 "add_bos_token":true,"add_eos_token":true})");
  const GgufFile file = as_gguf(scratch.path(), 3, scratch / "t.gguf");
  const std::vector<int32_t> want = {1, 0, 2};
  CHECK(load_tokenizer(scratch.path())->encode("a") == want);
  CHECK(gguf_tokenizer(file)->encode("a") == want);
  CHECK(load_tokenizer(written_folder(file, scratch / "hf"))->encode("a") == want);
}

TEST_CASE("chat templates of every name come back") {
  const ScratchFolder scratch("gguf_templates");
  write_file(scratch / "tokenizer.json", R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  write_file(scratch / "tokenizer_config.json",
             R"({"chat_template":[{"name":"default","template":"D"},
                                  {"name":"tool_use","template":"T"}]})");
  const GgufFile file = as_gguf(scratch.path(), 1, scratch / "t.gguf");
  CHECK(file.string("tokenizer.chat_template") == "D");
  CHECK(file.string("tokenizer.chat_template.tool_use") == "T");
  const std::string back = written_folder(file, scratch / "hf");
  const auto config = [](const std::string& folder) {
    return Json::parse(read_file(join_path(folder, "tokenizer_config.json"))).at("chat_template");
  };
  CHECK(config(back) == config(scratch.path()));
}

TEST_CASE("a BPE of whole words has no GGUF form") {
  const ScratchFolder scratch("gguf_suffix");
  try {
    written(scratch, "null", R"(["a b"])", R"(,"end_of_word_suffix":"</w>")");
    FAIL("a suffix was taken");
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find("end_of_word_suffix \"</w>\"") != std::string::npos);
  }
}

TEST_CASE("start and end tokens, and a vocabulary that is bytes") {
  const ScratchFolder scratch("gguf_ends");
  GgufWriter w;
  w.set("tokenizer.ggml.model", GgufValue::string("gpt2"));
  w.set("tokenizer.ggml.pre", GgufValue::string("llama-bpe"));
  w.set("tokenizer.ggml.tokens", GgufValue::strings({"a", "b", "ab", "<s>", "</s>", "[PAD5]"}));
  w.set("tokenizer.ggml.merges", GgufValue::strings({"a b"}));
  const int32_t types[] = {1, 1, 1, 3, 3, 5};
  w.set("tokenizer.ggml.token_type", GgufValue::i32s(types));
  w.set("tokenizer.ggml.bos_token_id", GgufValue::u32(3));
  w.set("tokenizer.ggml.eos_token_id", GgufValue::u32(4));
  w.set("tokenizer.ggml.add_eos_token", GgufValue::boolean(true));
  w.write(scratch / "t.gguf");
  const std::string folder = written_folder(GgufFile::open(scratch / "t.gguf"), scratch / "hf");
  const auto t = load_tokenizer(folder);
  CHECK(t->encode("ab</s>a") == std::vector<int32_t>{3, 2, 4, 0, 4});
  CHECK(t->named().bos == 3);
  CHECK(t->named().eos == 4);
  CHECK_FALSE(t->id_to_token(5));

  const GgufFile bytes = as_gguf("", 256, scratch / "bytes.gguf");
  CHECK(gguf_tokenizer(bytes) != nullptr);
  CHECK_FALSE(gguf_tokenizer_files(bytes));
}

}  // namespace
}  // namespace braid

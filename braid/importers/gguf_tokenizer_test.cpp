#include "braid/importers/gguf_tokenizer.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
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
Written written(const ScratchFolder& scratch, const std::string& pre, const std::string& merges) {
  write_file(scratch / "tokenizer.json",
             R"({"pre_tokenizer":)" + pre +
                 R"(,"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"abc":4},"merges":)" +
                 merges + "}}");
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
  const auto name = [&](const std::string& pre) {
    const Written w = written(scratch, pre, R"(["a b"])");
    CHECK(w.notes.size() == (w.pre() == "default" ? 1 : 0));
    return w.pre();
  };
  CHECK(name(R"({"type":"ByteLevel"})") == "gpt-2");
  const std::string llama3 = split(kLlama3Regex).dump(), digits = split(kDigits3Regex).dump();
  CHECK(name(sequence({llama3, kByteLevel})) == "llama-bpe");
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

}  // namespace
}  // namespace braid

#include "braid/text/tokenizer/bpe_trainer.h"

#include <doctest/doctest.h>

#include <map>

#include "braid/base/error.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {
namespace {

constexpr std::string_view kText =
    "low lower lowest new newer newest wide wider widest aaaaaaa aaaa banana bandana "
    "\xE4\xB8\x96\xE7\x95\x8C \xE4\xB8\x96\xE7\x95\x8C 12 123 1234 the then there these them\n"
    "low low low newest newest lower the the the the \xE4\xB8\x96 banana aaaaaaa\n";

TrainedBpe train(BpeTrainOptions options, std::string_view text, size_t part = SIZE_MAX) {
  BpeTrainer trainer(std::move(options));
  for (size_t at = 0; at < text.size(); at += part) {
    trainer.add(text.substr(at, part));
    if (part > text.size()) break;
  }
  return trainer.train([](int64_t) { return true; });
}

TEST_CASE("every merge is the most frequent pair, counted anew") {
  BpeTrainOptions options;
  options.vocab = 300;
  options.special = {"<|endoftext|>"};
  options.cut = "gpt2";
  const TrainedBpe t = train(options, kText);
  REQUIRE(t.merges.size() > 20);
  // The words as strings of tokens; spaces belong to the word after them in this text.
  std::map<std::vector<std::string>, int64_t> words;
  const auto cut = parse_tokenizer_json(
      R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
          "model":{"type":"WordLevel","vocab":{"?":0},"unk_token":"?"}})");
  std::vector<std::string> list;
  std::string word;
  for (size_t i = 0; i <= kText.size(); ++i) {
    const bool space = i == kText.size() || kText[i] == ' ' || kText[i] == '\n';
    if (space && !word.empty()) list.push_back(word);
    if (space) word.clear();
    if (i < kText.size()) word += kText[i];
    if (i < kText.size() && kText[i] == '\n') {
      list.push_back(word);
      word.clear();
    }
  }
  for (const std::string& w : list) {
    std::vector<std::string> symbols;
    for (const char c : w) symbols.push_back(byte_characters()[static_cast<uint8_t>(c)]);
    ++words[symbols];
  }
  for (const auto& [left, right] : t.merges) {
    std::map<std::pair<std::string, std::string>, int64_t> pairs;
    for (const auto& [symbols, n] : words) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) pairs[{symbols[i], symbols[i + 1]}] += n;
    }
    int64_t most = 0;
    for (const auto& [pair, n] : pairs) most = std::max(most, n);
    const std::string a = t.tokens[static_cast<size_t>(left)],
                      b = t.tokens[static_cast<size_t>(right)];
    CAPTURE(a);
    CAPTURE(b);
    REQUIRE(pairs[{a, b}] == most);
    std::map<std::vector<std::string>, int64_t> next;
    for (const auto& [symbols, n] : words) {
      std::vector<std::string> merged;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here = i + 1 < symbols.size() && symbols[i] == a && symbols[i + 1] == b;
        merged.push_back(here ? a + b : symbols[i]);
        i += here;
      }
      next[merged] += n;
    }
    words = next;
  }
}

TEST_CASE("the file reads back, encodes and decodes; parts and runs do not matter") {
  for (const std::string_view cut : cut_style_names()) {
    BpeTrainOptions options;
    options.vocab = 290;
    options.cut = cut;
    options.special = {"<|endoftext|>", "<|im_end|>"};
    const std::string json = tokenizer_json(train(options, kText));
    CHECK(tokenizer_json(train(options, kText, 7)) == json);
    const TrainedBpe trained = train(options, kText);
    const auto t = parse_tokenizer_json(json, tokenizer_config_json(trained));
    CHECK(t->vocab_size() == 290);
    CHECK(t->eos_token() == "<|endoftext|>");
    CHECK(t->token_to_id("<|im_end|>") == 1);
    const std::vector<int32_t> ids = t->encode(kText);
    CHECK(ids.size() < kText.size() / 2);
    CHECK(t->decode(ids) == kText);
    CHECK(t->encode("<|endoftext|>") == std::vector<int32_t>{0});
  }
}

TEST_CASE("options that cannot be") {
  const auto refuses = [](BpeTrainOptions o) {
    try {
      BpeTrainer{std::move(o)};
    } catch (const Error& e) {
      return e.kind() == ErrorKind::kUsage;
    }
    return false;
  };
  BpeTrainOptions o;
  CHECK_FALSE(refuses(o));
  o.vocab = 255;
  CHECK(refuses(o));
  o = {};
  o.cut = "llama9";
  CHECK(refuses(o));
  for (const std::vector<std::string>& special :
       {std::vector<std::string>{""}, {"a"}, {"<s>", "<s>"}, {"\xFF\xFF\xFF"}}) {
    o = {};
    o.special = special;
    CHECK(refuses(o));
  }
}

}  // namespace
}  // namespace braid

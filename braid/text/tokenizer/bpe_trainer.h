#pragma once
// Learns a byte-level BPE vocabulary from text and writes it as a tokenizer.json.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "braid/base/function_ref.h"

namespace braid {

// A well-known way to cut text: "gpt2", "llama3", "qwen", "o200k".
struct CutStyle {
  std::string_view name;
  std::string_view regex;
};
// Throws Error(kUsage) with the names there are.
const CutStyle& cut_style(std::string_view name);
std::vector<std::string_view> cut_style_names();

struct BpeTrainOptions {
  int64_t vocab = 8192;  // with special tokens and the 256 bytes
  std::string cut = "llama3";
  std::vector<std::string> special;  // the first ids, in this order
  int64_t min_count = 2;             // rarer pairs are not merged
};

struct TrainedBpe {
  BpeTrainOptions options;
  std::vector<std::string> tokens;  // by id, spelled as in byte_map.h
  std::vector<std::pair<int32_t, int32_t>> merges;
};

class BpeTrainer {
 public:
  // Throws Error(kUsage) for options that cannot be.
  explicit BpeTrainer(BpeTrainOptions options);
  ~BpeTrainer();
  // Text of the current document, in parts of any size.
  void add(std::string_view part);
  void end_document();
  int64_t bytes() const { return bytes_; }
  int64_t distinct_words() const;

  // Merges the most frequent pair (of equals the one with the smaller ids) until the vocabulary is
  // full or no pair is frequent enough. progress(tokens so far) may return false to stop early.
  TrainedBpe train(FunctionRef<bool(int64_t)> progress);

 private:
  struct Words;
  void count(std::string_view text);
  BpeTrainOptions options_;
  std::unique_ptr<Words> words_;
  std::string pending_;
  int64_t bytes_ = 0;
};

// The files of a Hugging Face folder. The first special token ends a text.
std::string tokenizer_json(const TrainedBpe& trained);
std::string tokenizer_config_json(const TrainedBpe& trained);

}  // namespace braid

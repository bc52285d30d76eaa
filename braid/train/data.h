#pragma once
// Training text as bytes or as tokens: unpacked (and tokenised) once into a memory-mapped cache, a
// held-out slice at its end, and batches that are a pure function of (seed, step), so that a
// resumed run continues exactly.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/file.h"
#include "braid/base/json.h"
#include "braid/train/data_tokenizer.h"

namespace braid {

struct DataOptions {
  std::string path;          // see data_source.h
  std::string cache_folder;  // made when missing
  uint64_t seed = 0;
  bool allow_binary = false;
  bool split_documents =
      true;  // a document is its own sequence: it neither sees nor predicts another one
  double held_out_share = 0.01;  // of the bytes, at the end of the data
  int64_t held_out_most = 1 << 20;
  // What turns documents into ids; without a tokenizer the ids are the bytes.
  DataTokenizer tokenizer = {};
};

// Rows laid end to end: inputs and targets have batch * seq_len entries; seq_starts begins with 0,
// ends with their number, and holds every row's and, with split_documents, every document's first
// position.
struct TrainBatch {
  std::vector<int32_t> inputs;
  std::vector<int32_t> targets;  // the next id; -100 (ignored) where it belongs to another document
  std::vector<int64_t> seq_starts;
  int64_t target_bytes = 0;  // of text that the targets stand for
};

class TrainData {
 public:
  // Reads the sources, or the cache of an earlier call on the same unchanged files. Throws
  // Error(kBadInput) for what data_source.h lists, and for data that holds no byte of text.
  static TrainData open(const DataOptions& options);

  // The batch of that step, `batch` rows of seq_len inputs each. Every epoch is a fresh permutation
  // of windows of seq_len + 1 ids that begin at a fresh offset. Throws Error(kBadInput) when the
  // data is shorter than one window, with both lengths.
  TrainBatch batch(int64_t step, int64_t batch, int64_t seq_len) const;
  // The first most_tokens of the held-out slice as consecutive windows, `batch` to a TrainBatch;
  // the last may be shorter. Every id but the first of each document or window is a target once.
  std::vector<TrainBatch> held_out(int64_t batch, int64_t seq_len,
                                   int64_t most_tokens = INT64_MAX) const;

  int64_t train_bytes() const { return held_out_begin_; }
  int64_t train_tokens() const { return tokens_ ? tokens_->held_out_begin : held_out_begin_; }
  int64_t held_out_tokens() const { return count() - train_tokens(); }
  // Bytes of text a training token stands for; 1 without a tokenizer.
  double bytes_per_token() const {
    return static_cast<double>(train_bytes()) / static_cast<double>(train_tokens());
  }
  std::string_view held_out_text() const {
    return text().substr(static_cast<size_t>(held_out_begin_));
  }
  std::string_view train_text() const {
    return text().substr(0, static_cast<size_t>(held_out_begin_));
  }
  int64_t documents() const { return static_cast<int64_t>(document_ends_.size()); }
  int64_t windows_per_epoch(int64_t seq_len) const;
  // One line where the tokens do not stand for the text whole, so that bits per byte are not those
  // of other tokenizers; else empty.
  std::string lossy() const;
  // The same text in the order of another seed.
  TrainData with_seed(uint64_t seed) const;
  bool from_cache() const { return from_cache_; }

  // What a checkpoint keeps so that a resumed run is known to see the same bytes in the same order.
  Json cursor(int64_t step) const;
  // The step of a saved cursor. Throws Error(kBadInput), with both values, when it was saved over
  // other data, another seed or other options.
  int64_t resume(const Json& cursor) const;

 private:
  std::string_view text() const { return bytes_->text(); }
  int64_t count() const;  // ids, of both parts
  int32_t id_at(int64_t i) const;
  int64_t bytes_of(int32_t id) const;
  void append_window(int64_t begin, int64_t length, TrainBatch& out) const;
  void choose_held_out(const DataOptions& options);

  std::string path_;
  uint64_t seed_ = 0;
  bool split_documents_ = true;
  bool from_cache_ = false;
  std::shared_ptr<const MappedFile> bytes_;
  std::vector<int64_t> document_ends_;  // ascending; the last is the number of bytes
  std::string digest_;  // of the bytes, the document ends and the tokenizer, in hexadecimal
  std::optional<TokenCache> tokens_;
  int64_t held_out_begin_ = 0;
};

// The image of `index` under a permutation of [0, n) that (seed, epoch) chooses; n >= 1.
uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t n);

}  // namespace braid

#include "braid/train/data.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/formats/safetensors.h"
#include "braid/ops/cross_entropy.h"
#include "braid/train/data_source.h"

namespace braid {
namespace {

constexpr const char* kCacheVersion = "1";

// What the cache was made from: any change of it makes another cache.
std::string fingerprint(const std::vector<SourceFile>& sources, bool allow_binary) {
  std::string text = format("{} {}", kCacheVersion, allow_binary);
  for (const SourceFile& s : sources) text += format("\n{} {} {}", s.path, s.bytes, s.modified_ns);
  return format("{:016x}", digest_of(text));
}

struct Cache {
  std::shared_ptr<const MappedFile> bytes;
  std::vector<int64_t> document_ends;
  std::string digest;
};

std::string digest_text(uint64_t bytes_digest, const std::vector<int64_t>& ends) {
  FileDigest d;
  d.add(&bytes_digest, sizeof bytes_digest);
  d.add(ends.data(), ends.size() * sizeof(int64_t));
  return format("{:016x}", d.value());
}

// The cache when it is whole; the index is written last, so that it stands for complete bytes.
std::optional<Cache> open_cache(const std::string& bytes_path, const std::string& index_path) {
  if (!file_size(bytes_path) || !file_size(index_path)) return std::nullopt;
  try {
    const SafetensorsFile index = SafetensorsFile::open(index_path);
    Cache cache{MappedFile::open(bytes_path), index.to_i64("document_ends"),
                index.metadata("digest")};
    const bool whole =
        !cache.document_ends.empty() &&
        std::is_sorted(cache.document_ends.begin(), cache.document_ends.end()) &&
        cache.document_ends.front() > 0 &&
        cache.document_ends.back() == static_cast<int64_t>(cache.bytes->size()) &&
        digest_text(digest_of(cache.bytes->text()), cache.document_ends) == cache.digest;
    if (whole) return cache;
  } catch (const Error&) {
    // A damaged cache is made again from the sources.
  }
  return std::nullopt;
}

void build_cache(const DataOptions& options, const std::vector<SourceFile>& sources,
                 const std::string& bytes_path, const std::string& index_path) {
  AtomicFile bytes(bytes_path);
  std::vector<int64_t> ends;
  const auto text = [&](std::string_view part) { bytes.write(part); };
  const auto end = [&] { ends.push_back(static_cast<int64_t>(bytes.bytes())); };
  for (const SourceFile& s : sources) read_documents(s.path, options.allow_binary, {text, end});
  if (bytes.bytes() == 0) {
    throw Error(ErrorKind::kBadInput,
                format("{}: there is no text in it ({} file{}, {} bytes)", options.path,
                       sources.size(), sources.size() == 1 ? "" : "s", bytes.bytes()));
  }
  bytes.commit();
  SafetensorsWriter index;
  index.set_metadata("digest", digest_text(bytes.digest(), ends));
  const int64_t count = static_cast<int64_t>(ends.size());
  index.add_i64("document_ends", {count}, std::move(ends));
  index.write(index_path);
}

}  // namespace

uint64_t shuffled(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t n) {
  // A Feistel network permutes the next even power of two; values outside [0, n) walk on until they
  // fall inside.
  const int half = std::max(1, static_cast<int>(std::bit_width(n - 1) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  const Rng rng(seed, format("data/epoch/{}", epoch));
  uint64_t x = index;
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t next = left ^ (rng.bits((round << half) | right) & mask);
      left = right;
      right = next;
    }
    x = (left << half) | right;
  } while (x >= n);
  return x;
}

TrainData TrainData::open(const DataOptions& options) {
  const std::vector<SourceFile> sources = list_sources(options.path);
  make_folders(options.cache_folder);
  const std::string stem =
      join_path(options.cache_folder, "data-" + fingerprint(sources, options.allow_binary));
  const std::string bytes_path = stem + ".bytes", index_path = stem + ".index.safetensors";
  TrainData data;
  std::optional<Cache> cache = open_cache(bytes_path, index_path);
  data.from_cache_ = cache.has_value();
  if (!cache) {
    build_cache(options, sources, bytes_path, index_path);
    cache = open_cache(bytes_path, index_path);
    BRAID_CHECK(cache.has_value());
  }
  data.path_ = options.path;
  data.seed_ = options.seed;
  data.split_documents_ = options.split_documents;
  data.bytes_ = std::move(cache->bytes);
  data.document_ends_ = std::move(cache->document_ends);
  data.digest_ = std::move(cache->digest);
  data.choose_held_out(options);
  if (options.tokenizer.present()) {
    const std::string text_digest = data.digest_;
    data.digest_ = format("{:016x}", digest_of(data.digest_ + options.tokenizer.digest));
    const std::string tokens =
        format("{}-{}-{:x}", stem, options.tokenizer.digest, data.held_out_begin_);
    try {
      data.tokens_ = open_token_cache(options.tokenizer, data.text(), text_digest,
                                      data.document_ends_, data.held_out_begin_, tokens);
    } catch (Error& e) {
      throw e.add_context(options.path);
    }
  }
  data.bytes_->release_pages();  // all of it was read to check its digest
  return data;
}

void TrainData::choose_held_out(const DataOptions& options) {
  const int64_t n = static_cast<int64_t>(text().size());
  const int64_t wanted = std::min(
      options.held_out_most, static_cast<int64_t>(options.held_out_share * static_cast<double>(n)));
  const int64_t cut = n - std::clamp<int64_t>(wanted, 0, n);
  held_out_begin_ = cut;
  if (cut == 0 || cut == n) return;
  // The next document's start, else the next line's, while that keeps at least half of the slice.
  const int64_t last = cut + (n - cut) / 2;
  const auto document = std::lower_bound(document_ends_.begin(), document_ends_.end(), cut);
  if (document != document_ends_.end() && *document <= last) {
    held_out_begin_ = *document;
    return;
  }
  const size_t line = text().find('\n', static_cast<size_t>(cut) - 1);
  if (line != std::string_view::npos && static_cast<int64_t>(line) + 1 <= last) {
    held_out_begin_ = static_cast<int64_t>(line) + 1;
  }
}

std::string TrainData::lossy() const {
  if (!tokens_) return "";
  const auto there = static_cast<int64_t>(text().size());
  // A tokenizer may put a blank before each text.
  if (std::abs(tokens_->told_bytes - there) <= documents()) return "";
  return format(
      "the tokens stand for {:.2f} % of the text's bytes (unknown tokens, or a normalizer that "
      "changes it): bits per byte are of those, and not of what other tokenizers are measured on",
      100 * static_cast<double>(tokens_->told_bytes) / static_cast<double>(there));
}

TrainData TrainData::with_seed(uint64_t seed) const {
  TrainData other = *this;
  other.seed_ = seed;
  return other;
}

int64_t TrainData::count() const {
  return tokens_ ? std::ssize(tokens_->ids()) : static_cast<int64_t>(text().size());
}

int32_t TrainData::id_at(int64_t i) const {
  const auto at = static_cast<size_t>(i);
  return tokens_ ? tokens_->ids()[at] : static_cast<unsigned char>(text()[at]);
}

int64_t TrainData::bytes_of(int32_t id) const {
  return tokens_ ? tokens_->bytes_of[static_cast<size_t>(id)] : 1;
}

int64_t TrainData::windows_per_epoch(int64_t seq_len) const {
  const int64_t windows = (train_tokens() - 1) / seq_len;
  if (windows < 1) {
    const char* unit = tokens_ ? "token" : "byte";
    throw Error(ErrorKind::kBadInput,
                format("{}: {} {}s to train on are fewer than one window "
                       "of {} (--seq-len {} and the {} it "
                       "predicts)",
                       path_, train_tokens(), unit, seq_len + 1, seq_len, unit));
  }
  // One less where there are several, so that each epoch can begin at another offset.
  return std::max<int64_t>(1, windows - 1);
}

TrainBatch TrainData::batch(int64_t step, int64_t batch, int64_t seq_len) const {
  BRAID_CHECK(step >= 0 && batch > 0 && seq_len > 0);
  const uint64_t windows = static_cast<uint64_t>(windows_per_epoch(seq_len));
  const Rng offsets(seed_, "data/offset");
  const uint64_t slack =
      static_cast<uint64_t>(train_tokens() - 1) - windows * static_cast<uint64_t>(seq_len);
  TrainBatch out;
  out.inputs.reserve(static_cast<size_t>(batch * seq_len));
  out.targets.reserve(static_cast<size_t>(batch * seq_len));
  for (int64_t row = 0; row < batch; ++row) {
    const uint64_t sample = static_cast<uint64_t>(step * batch + row);
    const uint64_t epoch = sample / windows;
    const uint64_t window = shuffled(seed_, epoch, sample % windows, windows);
    const uint64_t offset =
        offsets.below(epoch, std::min(slack, static_cast<uint64_t>(seq_len) - 1) + 1);
    append_window(static_cast<int64_t>(offset + window * static_cast<uint64_t>(seq_len)), seq_len,
                  out);
  }
  out.seq_starts.push_back(static_cast<int64_t>(out.inputs.size()));
  return out;
}

std::vector<TrainBatch> TrainData::held_out(int64_t batch, int64_t seq_len,
                                            int64_t most_tokens) const {
  BRAID_CHECK(batch > 0 && seq_len > 0);
  const int64_t first = train_tokens();
  const int64_t last = first + std::min(count() - first - 1, most_tokens);
  std::vector<TrainBatch> out;
  int64_t rows = 0;
  for (int64_t begin = first; begin < last; begin += seq_len, ++rows) {
    if (rows % batch == 0) out.emplace_back();
    append_window(begin, std::min(seq_len, last - begin), out.back());
  }
  for (TrainBatch& b : out) b.seq_starts.push_back(static_cast<int64_t>(b.inputs.size()));
  return out;
}

void TrainData::append_window(int64_t begin, int64_t length, TrainBatch& out) const {
  const int64_t base = static_cast<int64_t>(out.inputs.size());
  out.seq_starts.push_back(base);
  for (int64_t i = 0; i < length; ++i) {
    out.inputs.push_back(id_at(begin + i));
    out.targets.push_back(id_at(begin + i + 1));
    out.target_bytes += bytes_of(out.targets.back());
  }
  if (!split_documents_) return;
  const std::vector<int64_t>& ends = tokens_ ? tokens_->document_ends : document_ends_;
  auto end = std::upper_bound(ends.begin(), ends.end(), begin);
  for (; end != ends.end() && *end <= begin + length; ++end) {
    const int64_t at = *end - begin;  // the first byte of the next document
    int32_t& across = out.targets[static_cast<size_t>(base + at - 1)];
    out.target_bytes -= bytes_of(across);
    across = kIgnoreTarget;
    if (at < length) out.seq_starts.push_back(base + at);
  }
}

Json TrainData::cursor(int64_t step) const {
  return Json::object({{"step", step},
                       {"seed", seed_},
                       {"split_documents", split_documents_},
                       {"train_bytes", train_bytes()},
                       {"digest", digest_}});
}

int64_t TrainData::resume(const Json& saved) const {
  const int64_t step = saved.at("step").as_int();
  const Json mine = cursor(step);
  for (const Json::Member& m : mine.members()) {
    if (saved.at(m.key) == m.value) continue;
    throw Error(ErrorKind::kBadInput, format("{}: the run was begun with data of {} {}, but now it "
                                             "is {}: resume with the same data, or "
                                             "start a new run in another folder",
                                             path_, m.key, saved.at(m.key).dump(), m.value.dump()));
  }
  return step;
}

}  // namespace braid

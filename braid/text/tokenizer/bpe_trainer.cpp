#include "braid/text/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/known_regexes.h"
#include "braid/text/tokenizer/pretokenizer.h"
#include "braid/text/tokenizer/text_hash.h"
#include "braid/text/tokenizer/unicode.h"
#include "braid/text/tokenizer/vocabulary.h"

namespace braid {
namespace {

constexpr std::array<CutStyle, 4> kStyles = {{{"gpt2", kGpt2Regex},
                                              {"llama3", kLlama3Regex},
                                              {"qwen", kQwen2Regex},
                                              {"o200k", kO200kRegex}}};
constexpr size_t kPartBytes = size_t{1} << 20;

// Where text may be cut without changing what the regexes find: before a letter that follows a line
// end. 0 when there is no such place.
size_t safe_cut(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (size_t at = text.size(); at-- > 1;) {
    if (letter(text[at]) && text[at - 1] == '\n') return at;
  }
  return 0;
}

// Words as ids, and where each pair of neighbours occurs.
class Merger {
 public:
  Merger(const Vocabulary& words, const std::vector<int64_t>& counts,
         const std::array<int32_t, 256>& byte_ids)
      : counts_(counts) {
    int64_t total = 0;
    for (int32_t w = 0; w < words.size(); ++w) total += std::ssize(words.at(w));
    symbols_.reserve(static_cast<size_t>(total));
    for (int32_t w = 0; w < words.size(); ++w) {
      spans_.push_back({symbols_.size(), words.at(w).size()});
      for (const char c : words.at(w)) symbols_.push_back(byte_ids[static_cast<uint8_t>(c)]);
      count_pairs(w);
    }
    for (const auto& [key, pair] : pairs_) queue_.push({pair.count, key});
    changed_.clear();
  }

  struct Best {
    int64_t count = 0;
    int32_t left = 0, right = 0;
  };

  // The most frequent pair; count 0 when there is none left.
  Best pop() {
    while (!queue_.empty()) {
      const Entry top = queue_.top();
      queue_.pop();
      const auto it = pairs_.find(top.key);
      if (it == pairs_.end() || it->second.count <= 0) continue;
      if (it->second.count == top.count) {
        return {top.count, static_cast<int32_t>(top.key >> 32), static_cast<int32_t>(top.key)};
      }
      queue_.push({it->second.count, top.key});  // it has become rarer since
    }
    return {};
  }

  void merge(int32_t left, int32_t right, int32_t result) {
    const uint64_t key = key_of(left, right);
    const std::vector<int32_t> where = std::move(pairs_[key].words);
    for (const int32_t w : where) merge_word(w, left, right, result);
    pairs_.erase(key);
    for (const uint64_t k : changed_) {
      const auto it = pairs_.find(k);
      if (it != pairs_.end() && it->second.count > 0) queue_.push({it->second.count, k});
    }
    changed_.clear();
  }

 private:
  struct Entry {
    int64_t count;
    uint64_t key;
    bool operator<(const Entry& other) const {
      return count != other.count ? count < other.count : key > other.key;
    }
  };
  struct PairInfo {
    int64_t count = 0;
    std::vector<int32_t> words;  // may name a word twice, or one that has lost the pair
  };
  struct Hash {
    size_t operator()(uint64_t key) const { return mix_bits(key * 0xD6E8FEB86659FD93ULL); }
  };
  struct Span {
    size_t begin, size;
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  void count_pair(int32_t word, int32_t left, int32_t right, int64_t sign) {
    const uint64_t key = key_of(left, right);
    PairInfo& p = pairs_[key];
    p.count += sign * counts_[static_cast<size_t>(word)];
    if (sign < 0) return;
    if (p.words.empty() || p.words.back() != word) p.words.push_back(word);
    changed_.push_back(key);
  }

  void count_pairs(int32_t word) {
    const Span& s = spans_[static_cast<size_t>(word)];
    for (size_t i = 0; i + 1 < s.size; ++i) {
      count_pair(word, symbols_[s.begin + i], symbols_[s.begin + i + 1], +1);
    }
  }

  void merge_word(int32_t word, int32_t left, int32_t right, int32_t result) {
    Span& s = spans_[static_cast<size_t>(word)];
    int32_t* symbols = symbols_.data() + s.begin;
    size_t first = 0;
    while (first + 1 < s.size && !(symbols[first] == left && symbols[first + 1] == right)) ++first;
    if (first + 1 >= s.size) return;
    size_t out = first;
    for (size_t i = first; i < s.size; ++out) {
      if (i + 1 >= s.size || symbols[i] != left || symbols[i + 1] != right) {
        symbols[out] = symbols[i++];
        continue;
      }
      // What stands before is merged already where it could be, what follows is not.
      if (out > 0) {
        count_pair(word, symbols[out - 1], left, -1);
        count_pair(word, symbols[out - 1], result, +1);
      }
      if (i + 2 < s.size) {
        count_pair(word, right, symbols[i + 2], -1);
        count_pair(word, result, symbols[i + 2], +1);
      }
      symbols[out] = result;
      i += 2;
    }
    s.size = out;
  }

  const std::vector<int64_t>& counts_;
  std::vector<int32_t> symbols_;
  std::vector<Span> spans_;
  std::unordered_map<uint64_t, PairInfo, Hash> pairs_;
  std::vector<uint64_t> changed_;
  std::priority_queue<Entry> queue_;
};

}  // namespace

const CutStyle& cut_style(std::string_view name) {
  for (const CutStyle& s : kStyles) {
    if (s.name == name) return s;
  }
  std::string names;
  for (const CutStyle& s : kStyles) names.append(names.empty() ? "" : ", ").append(s.name);
  throw Error(ErrorKind::kUsage,
              format("'{}' is no way to cut text; there are {}", printable(name), names));
}

std::vector<std::string_view> cut_style_names() {
  std::vector<std::string_view> names;
  for (const CutStyle& s : kStyles) names.push_back(s.name);
  return names;
}

struct BpeTrainer::Words {
  Vocabulary texts;
  std::vector<int64_t> counts;
  std::unique_ptr<PreTokenizer> cut;
  Regex::Scratch scratch;
  Pieces pieces;
};

BpeTrainer::BpeTrainer(BpeTrainOptions options)
    : options_(std::move(options)), words_(std::make_unique<Words>()) {
  words_->cut = split_isolated(Regex(cut_style(options_.cut).regex));
  const int64_t least = 256 + std::ssize(options_.special);
  if (options_.vocab < least || options_.vocab > Vocabulary::kMaxId + 1) {
    throw Error(ErrorKind::kUsage,
                format("a vocabulary of {}; it must be {} (256 bytes and {} special tokens) to {}",
                       options_.vocab, least, options_.special.size(), Vocabulary::kMaxId + 1));
  }
  for (auto s = options_.special.begin(); s != options_.special.end(); ++s) {
    if (s->empty() || valid_utf8_prefix(*s) != s->size() ||
        std::find(options_.special.begin(), s, *s) != s) {
      throw Error(ErrorKind::kUsage,
                  format("special token '{}' is empty, no UTF-8 or given twice", printable(*s)));
    }
    if (first_code_point(*s).bytes == std::ssize(*s) && s->size() <= 2) {
      throw Error(ErrorKind::kUsage,
                  format("special token '{}' is a single character", printable(*s)));
    }
  }
}

BpeTrainer::~BpeTrainer() = default;

int64_t BpeTrainer::distinct_words() const { return words_->texts.count(); }

void BpeTrainer::add(std::string_view part) {
  bytes_ += std::ssize(part);
  pending_ += part;
  if (pending_.size() < kPartBytes) return;
  const size_t cut = safe_cut(pending_);
  if (cut == 0) return;
  count(std::string_view(pending_).substr(0, cut));
  pending_.erase(0, cut);
}

void BpeTrainer::end_document() {
  count(pending_);
  pending_.clear();
}

void BpeTrainer::count(std::string_view text) {
  if (text.empty()) return;
  Words& w = *words_;
  w.pieces.text = text;
  w.pieces.ranges.assign(1, {0, text.size()});
  w.cut->apply(w.pieces, w.scratch);
  for (const Range& r : w.pieces.ranges) {
    const std::string_view word = text.substr(r.begin, r.size());
    int32_t id = w.texts.find(word);
    if (id < 0) {
      id = w.texts.size();
      w.texts.add(id, word);
      w.counts.push_back(0);
    }
    ++w.counts[static_cast<size_t>(id)];
  }
}

TrainedBpe BpeTrainer::train(FunctionRef<bool(int64_t)> progress) {
  end_document();
  TrainedBpe out;
  out.options = options_;
  Vocabulary tokens;
  const auto add = [&](std::string_view token) {
    const int32_t id = tokens.size();
    tokens.add(id, token);
    return id;
  };
  for (const std::string& s : options_.special) add(s);
  std::array<int32_t, 256> byte_ids{};
  // In the order of the characters that spell the bytes.
  std::vector<std::pair<uint32_t, size_t>> order;
  for (size_t b = 0; b < 256; ++b) {
    order.push_back({first_code_point(byte_characters()[b]).value, b});
  }
  std::sort(order.begin(), order.end());
  for (const auto& [character, b] : order) byte_ids[b] = add(byte_characters()[b]);

  Merger merger(words_->texts, words_->counts, byte_ids);
  while (tokens.size() < options_.vocab && progress(tokens.size())) {
    const Merger::Best best = merger.pop();
    if (best.count < std::max<int64_t>(1, options_.min_count)) break;
    const std::string token =
        std::string(tokens.at(best.left)) + std::string(tokens.at(best.right));
    // Another pair may have made the same token before.
    const int32_t known = tokens.find(token);
    out.merges.push_back({best.left, best.right});
    merger.merge(best.left, best.right, known >= 0 ? known : add(token));
  }
  for (int32_t id = 0; id < tokens.size(); ++id) out.tokens.emplace_back(tokens.at(id));
  return out;
}

}  // namespace braid

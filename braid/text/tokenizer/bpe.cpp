#include "braid/text/tokenizer/bpe.h"

#include <algorithm>
#include <climits>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/text_hash.h"
#include "braid/text/tokenizer/utf8.h"

namespace braid {
namespace {

constexpr size_t kShort = 32;  // up to here looking at every pair beats a heap

bool after(const ModelScratch::Candidate& a, const ModelScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

std::vector<int32_t> byte_token_ids(const Vocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (int b = 0; b < 256; ++b) ids.push_back(vocabulary.find(format("<0x{:02X}>", b)));
  return ids;
}

Bpe::Bpe(Vocabulary vocabulary, const std::vector<BpeMerge>& merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  if (options_.byte_fallback) byte_tokens_ = byte_token_ids(vocabulary_);
  if (options_.unk_token.has_value()) unk_ = vocabulary_.find(*options_.unk_token);
  for (uint32_t b = 0; b < 256; ++b) {
    const char ascii = static_cast<char>(b);
    characters_[b] = options_.raw_bytes ? vocabulary_.find(byte_characters()[b])
                     : b < 128          ? vocabulary_.find({&ascii, 1})
                                        : -1;
  }
  size_t slots = 16;
  while (slots < merges.size() * 2) slots *= 2;
  pairs_.resize(slots);
  for (const BpeMerge& m : merges) insert_pair(m);
  find_cuts(merges);
}

const Bpe::Pair* Bpe::find_pair(int32_t left, int32_t right) const {
  const uint64_t key = key_of(left, right);
  const size_t mask = pairs_.size() - 1;
  for (size_t slot = mix_bits(key * 0xD6E8FEB86659FD93ULL) & mask; pairs_[slot].key != kNoPair;
       slot = (slot + 1) & mask) {
    if (pairs_[slot].key == key) return &pairs_[slot];
  }
  return nullptr;
}

void Bpe::insert_pair(const BpeMerge& m) {
  const uint64_t key = key_of(m.left, m.right);
  const size_t mask = pairs_.size() - 1;
  size_t slot = mix_bits(key * 0xD6E8FEB86659FD93ULL) & mask;
  while (pairs_[slot].key != kNoPair && pairs_[slot].key != key) slot = (slot + 1) & mask;
  pairs_[slot] = {key, m.rank, m.result};
}

void Bpe::find_cuts(const std::vector<BpeMerge>& merges) {
  // Unknown characters that are fused or replaced by bytes that merge would reach across a cut.
  const bool all_bytes =
      options_.byte_fallback &&
      std::find(byte_tokens_.begin(), byte_tokens_.end(), -1) == byte_tokens_.end();
  cuts_ = !options_.raw_bytes && !options_.ignore_merges && options_.end_of_word_suffix.empty() &&
          options_.continuing_subword_prefix.empty() &&
          (!options_.unk_token.has_value() || all_bytes);
  if (!cuts_) return;
  std::vector<char> special(static_cast<size_t>(vocabulary_.size()));
  for (const int32_t id : byte_tokens_) {
    if (id >= 0) special[static_cast<size_t>(id)] = 1;
  }
  if (unk_ >= 0) special[static_cast<size_t>(unk_)] = 1;
  for (const BpeMerge& m : merges) {
    const std::string_view left = vocabulary_.at(m.left), right = vocabulary_.at(m.right);
    if (special[static_cast<size_t>(m.left)] || special[static_cast<size_t>(m.right)] ||
        left.empty() || right.empty()) {
      cuts_ = false;
      return;
    }
    const uint32_t before = last_code_point(left).value, next = first_code_point(right).value;
    if (before < 128 && next < 128) {
      ascii_joins_[before * 128 + next] = true;
    } else {
      other_joins_.insert(static_cast<uint64_t>(before) << 32 | next);
    }
  }
}

bool Bpe::joins(uint32_t before, uint32_t next) const {
  if (before < 128 && next < 128) return ascii_joins_[before * 128 + next];
  return other_joins_.contains(static_cast<uint64_t>(before) << 32 | next);
}

void Bpe::encode(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const {
  if (piece.empty()) return;
  if (cuts_) {
    encode_cut(piece, scratch, ids);
  } else {
    encode_cached(piece, scratch, ids);
  }
}

void Bpe::encode_cut(std::string_view piece, ModelScratch& scratch,
                     std::vector<int32_t>& ids) const {
  size_t begin = 0, at = 0;
  uint32_t before = 0;
  while (at < piece.size()) {
    const CodePoint c = first_code_point(piece.substr(at));
    if (at > begin && !joins(before, c.value)) {
      encode_cached(piece.substr(begin, at - begin), scratch, ids);
      begin = at;
    }
    before = c.value;
    at += static_cast<size_t>(c.bytes);
  }
  encode_cached(piece.substr(begin), scratch, ids);
}

void Bpe::encode_cached(std::string_view segment, ModelScratch& scratch,
                        std::vector<int32_t>& ids) const {
  const bool keep = segment.size() <= PieceCache::kMaxPieceBytes;
  const uint64_t hash = keep ? text_hash(segment) : 0;
  if (keep) {
    const std::span<const int32_t> known = scratch.cache.find(segment, hash);
    if (known.data() != nullptr) {
      ids.insert(ids.end(), known.begin(), known.end());
      return;
    }
  }
  encode_segment(segment, scratch);
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
  if (keep) scratch.cache.insert(segment, hash, scratch.ids);
}

void Bpe::encode_segment(std::string_view segment, ModelScratch& scratch) const {
  if (segment.size() > INT32_MAX) {
    throw Error(ErrorKind::kBadInput,
                format("a piece of {} bytes; at most {}", segment.size(), INT32_MAX));
  }
  scratch.ids.clear();
  if (options_.ignore_merges) {
    if (options_.raw_bytes) scratch.text = map_bytes(segment);
    const int32_t whole = vocabulary_.find(options_.raw_bytes ? scratch.text : segment);
    if (whole >= 0) {
      scratch.ids.push_back(whole);
      return;
    }
  }
  first_symbols(segment, scratch);
  if (scratch.ids.size() <= kShort) {
    merge_short(scratch.ids);
  } else {
    merge_long(scratch);
  }
}

// One symbol for each character; those that are not in the vocabulary as bytes, else unknown, else
// left out. An unknown one that waits to be fused comes after bytes that follow it, as in the
// reference.
void Bpe::first_symbols(std::string_view segment, ModelScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  bool unknown = false;
  const auto flush = [&] {
    if (unknown) ids.push_back(unk_);
    unknown = false;
  };
  const bool spelled =
      !options_.continuing_subword_prefix.empty() || !options_.end_of_word_suffix.empty();
  for (size_t at = 0, bytes; at < segment.size(); at += bytes) {
    bytes =
        options_.raw_bytes ? 1 : static_cast<size_t>(first_code_point(segment.substr(at)).bytes);
    std::string_view s = segment.substr(at, bytes);
    int32_t id;
    if (!spelled && bytes == 1) {
      id = characters_[static_cast<uint8_t>(s[0])];
      if (id < 0 && options_.raw_bytes) s = byte_characters()[static_cast<uint8_t>(s[0])];
    } else {
      if (spelled) {
        const std::string_view middle =
            options_.raw_bytes ? byte_characters()[static_cast<uint8_t>(s[0])] : s;
        scratch.text = at > 0 ? options_.continuing_subword_prefix : "";
        scratch.text += middle;
        if (at + bytes == segment.size()) scratch.text += options_.end_of_word_suffix;
        s = scratch.text;
      }
      id = vocabulary_.find(s);
    }
    if (id >= 0) {
      flush();
      ids.push_back(id);
      continue;
    }
    const auto lacks = [&](char b) { return byte_tokens_[static_cast<uint8_t>(b)] < 0; };
    if (options_.byte_fallback && std::none_of(s.begin(), s.end(), lacks)) {
      for (const char b : s) ids.push_back(byte_tokens_[static_cast<uint8_t>(b)]);
      continue;
    }
    if (!options_.unk_token.has_value()) continue;
    if (unk_ < 0) {
      throw Error(ErrorKind::kBadInput,
                  format("'{}' is not in the vocabulary, nor is unk_token '{}'", printable(s),
                         printable(*options_.unk_token)));
    }
    if (!options_.fuse_unk) flush();
    unknown = true;
  }
  flush();
}

void Bpe::merge_short(std::vector<int32_t>& ids) const {
  struct {
    int32_t rank, result;
  } pairs[kShort];
  const auto look = [&](size_t i) {
    const Pair* p = find_pair(ids[i], ids[i + 1]);
    pairs[i] = {p == nullptr ? INT_MAX : p->rank, p == nullptr ? 0 : p->result};
  };
  size_t n = ids.size();
  for (size_t i = 0; i + 1 < n; ++i) look(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == INT_MAX) break;
    ids[best] = pairs[best].result;
    std::copy(ids.begin() + static_cast<int64_t>(best) + 2, ids.begin() + static_cast<int64_t>(n),
              ids.begin() + static_cast<int64_t>(best) + 1);
    --n;
    for (size_t i = best + 1; i + 1 < n; ++i) pairs[i] = pairs[i + 1];
    if (best > 0) look(best - 1);
    if (best + 1 < n) look(best);
  }
  ids.resize(n);
}

void Bpe::merge_long(ModelScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<int32_t>(ids.size());
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < n; ++i) {
    symbols.push_back({ids[static_cast<size_t>(i)], i - 1, i + 1 < n ? i + 1 : -1});
  }
  const auto symbol = [&](int32_t i) -> ModelScratch::Symbol& {
    return symbols[static_cast<size_t>(i)];
  };
  const auto propose = [&](int32_t i) {
    if (const Pair* p = find_pair(symbol(i).id, symbol(symbol(i).next).id)) {
      heap.push_back({p->rank, i, p->result});
      return true;
    }
    return false;
  };
  for (int32_t i = 0; i + 1 < n; ++i) propose(i);
  std::make_heap(heap.begin(), heap.end(), after);
  while (!heap.empty()) {
    const ModelScratch::Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), after);
    heap.pop_back();
    ModelScratch::Symbol& s = symbol(top.at);
    if (s.id < 0 || s.next < 0) continue;
    const Pair* now = find_pair(s.id, symbol(s.next).id);
    if (now == nullptr || now->result != top.result) continue;  // one of the two has changed since
    s.id = top.result;
    ModelScratch::Symbol& right = symbol(s.next);
    right.id = -1;
    s.next = right.next;
    if (s.next >= 0) symbol(s.next).previous = top.at;
    if (s.previous >= 0 && propose(s.previous)) std::push_heap(heap.begin(), heap.end(), after);
    if (s.next >= 0 && propose(top.at)) std::push_heap(heap.begin(), heap.end(), after);
  }
  ids.clear();
  for (int32_t i = 0; i >= 0; i = symbol(i).next) ids.push_back(symbol(i).id);
}

std::vector<BpeMerge> merges_of_ranks(const Vocabulary& vocabulary,
                                      const std::vector<int32_t>& ranks) {
  std::vector<BpeMerge> merges;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.has(id) || ranks[static_cast<size_t>(id)] < 0) continue;
    const std::string_view token = vocabulary.at(id);
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<uint8_t>(token[cut]) & 0xC0) == 0x80) continue;  // inside a character
      const int32_t left = vocabulary.find(token.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = vocabulary.find(token.substr(cut));
      if (right >= 0) merges.push_back({left, right, id, ranks[static_cast<size_t>(id)]});
    }
  }
  return merges;
}

}  // namespace braid

#include "braid/text/tokenizer/bpe.h"

#include <doctest/doctest.h>

#include <map>

#include "braid/base/rng.h"

namespace braid {
namespace {

// A vocabulary of four letters, one of them two bytes long, and what random merges make of them.
struct Random {
  Vocabulary vocabulary;
  std::vector<BpeMerge> merges;
};

Random random_bpe(uint64_t seed, int merges) {
  uint64_t n = 0;
  const auto pick = [&](size_t below) {
    return static_cast<int32_t>(Rng(seed, "merges").below(n++, below));
  };
  Random r;
  int32_t next = 0;
  for (const char* letter : {"a", "b", "\xC3\xA9", "_"}) r.vocabulary.add(next++, letter);
  std::map<std::pair<int32_t, int32_t>, bool> seen;
  for (int i = 0; i < merges; ++i) {
    const int32_t left = pick(static_cast<size_t>(next)), right = pick(static_cast<size_t>(next));
    const std::string token =
        std::string(r.vocabulary.at(left)) + std::string(r.vocabulary.at(right));
    if (token.size() > 12 || seen[{left, right}]) continue;
    seen[{left, right}] = true;
    int32_t id = r.vocabulary.find(token);
    if (id < 0) r.vocabulary.add(id = next++, token);
    r.merges.push_back({left, right, id, static_cast<int32_t>(r.merges.size())});
  }
  return r;
}

// The definition: look at all pairs, merge the lowest rank, the leftmost first, until none is left.
std::vector<int32_t> merged(std::vector<int32_t> ids, const std::vector<BpeMerge>& merges) {
  std::map<std::pair<int32_t, int32_t>, BpeMerge> table;
  for (const BpeMerge& m : merges) table[{m.left, m.right}] = m;
  for (;;) {
    const BpeMerge* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = table.find({ids[i], ids[i + 1]});
      if (it == table.end() || (best != nullptr && it->second.rank >= best->rank)) continue;
      best = &it->second;
      at = i;
    }
    if (best == nullptr) return ids;
    ids[at] = best->result;
    ids.erase(ids.begin() + static_cast<int64_t>(at) + 1);
  }
}

TEST_CASE("merging follows its definition at every length, with and without cuts") {
  ModelScratch scratch;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const Random r = random_bpe(seed, 5 + static_cast<int>(seed) * 2);
    // unk_token without byte fallback switches the cuts off.
    BpeOptions whole;
    whole.unk_token = "a";
    const Bpe cut(r.vocabulary, r.merges, {}), uncut(r.vocabulary, r.merges, whole);
    for (const size_t length : {1, 2, 3, 31, 32, 33, 34, 100, 700}) {
      std::vector<int32_t> symbols;
      std::string text;
      for (size_t i = 0; i < length; ++i) {
        symbols.push_back(static_cast<int32_t>(Rng(seed * 1000 + length, 1).below(i, 4)));
        text += r.vocabulary.at(symbols.back());
      }
      const std::vector<int32_t> expected = merged(symbols, r.merges);
      for (const Bpe* bpe : {&cut, &uncut, &cut}) {
        ModelScratch fresh;
        std::vector<int32_t> ids;
        bpe->encode(text, fresh, ids);
        CHECK(ids == expected);
      }
      std::vector<int32_t> again;  // from the cache, where it fits
      cut.encode(text, scratch, again);
      CHECK(again == expected);
      scratch = {};
    }
  }
}

TEST_CASE("a piece of a million characters is not quadratic") {
  Random r = random_bpe(7, 60);
  BpeOptions whole;
  whole.unk_token = "a";
  const Bpe bpe(r.vocabulary, r.merges, whole);
  std::string text;
  for (size_t i = 0; i < 1'000'000; ++i) {
    text += r.vocabulary.at(static_cast<int32_t>(Rng(5, 1).below(i, 4)));
  }
  ModelScratch scratch;
  std::vector<int32_t> ids;
  bpe.encode(text, scratch, ids);  // would take hours
  std::string back;
  for (const int32_t id : ids) back += bpe.vocabulary().at(id);
  CHECK(back == text);
}

TEST_CASE("ranks of tokens give the merges that every cut of a token allows") {
  Vocabulary v;
  for (const char* token : {"a", "b", "ab", "ba", "aba"}) v.add(v.size(), token);
  const std::vector<BpeMerge> merges = merges_of_ranks(v, {0, 1, 2, 3, 4});
  REQUIRE(merges.size() == 4);  // a+b, b+a, a+ba, ab+a
  ModelScratch scratch;
  std::vector<int32_t> ids;
  Bpe(v, merges, {}).encode("ababa", scratch, ids);
  CHECK(ids == std::vector<int32_t>{2, 4});
}

}  // namespace
}  // namespace braid

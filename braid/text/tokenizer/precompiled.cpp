#include "braid/text/tokenizer/precompiled.h"

#include <cstring>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/text/tokenizer/base64.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

constexpr size_t kLongestCluster = 6;  // longer ones are looked up character by character

// The double array's units: an offset to the children, a label, and whether a value hangs below.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFFu; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FFu; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 0x200u) >> 6); }

class Precompiled final : public Normalizer {
 public:
  Precompiled(std::vector<uint32_t> trie, std::string texts)
      : trie_(std::move(trie)), texts_(std::move(texts)) {}

  void apply(std::string& text, Regex::Scratch&) const override {
    std::string out;
    out.reserve(text.size());
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::string_view cluster = rest.substr(0, first_grapheme(rest));
      rest.remove_prefix(cluster.size());
      if (cluster.size() < kLongestCluster && replace(cluster, out)) continue;
      for_each_code_point(cluster, [&](const CodePoint&, std::string_view bytes) {
        if (!replace(bytes, out)) out += bytes;
      });
    }
    text = std::move(out);
  }

 private:
  // The reference takes the shortest entry that the text begins with, for the whole text.
  bool replace(std::string_view text, std::string& out) const {
    size_t node = offset_of(trie_[0]);
    for (const char c : text) {
      const auto byte = static_cast<uint8_t>(c);
      node ^= byte;
      if (byte == 0 || node >= trie_.size() || label_of(trie_[node]) != byte) return false;
      const uint32_t unit = trie_[node];
      node ^= offset_of(unit);
      if (!has_leaf(unit)) continue;
      if (node >= trie_.size()) return false;
      const uint32_t at = value_of(trie_[node]);
      if (at >= texts_.size()) return false;
      out += texts_.c_str() + at;
      return true;
    }
    return false;
  }

  std::vector<uint32_t> trie_;
  std::string texts_;  // each ends with a NUL
};

}  // namespace

std::unique_ptr<Normalizer> parse_precompiled(std::string_view base64) {
  const std::optional<std::string> blob = decode_base64(base64);
  if (!blob.has_value()) throw Error(ErrorKind::kBadInput, "precompiled_charsmap is no base64");
  uint32_t bytes = 0;
  if (blob->size() >= 4) std::memcpy(&bytes, blob->data(), 4);
  if (blob->size() < 8 || bytes < 4 || bytes % 4 != 0 || bytes > blob->size() - 4) {
    throw Error(ErrorKind::kBadInput,
                format("precompiled_charsmap: a trie of {} bytes in {}", bytes, blob->size()));
  }
  std::vector<uint32_t> trie(bytes / 4);
  std::memcpy(trie.data(), blob->data() + 4, bytes);
  std::string texts = blob->substr(4 + bytes);
  if (valid_utf8_prefix(texts) != texts.size()) {
    throw Error(ErrorKind::kBadInput, "precompiled_charsmap: the replacements are no UTF-8");
  }
  return std::make_unique<Precompiled>(std::move(trie), std::move(texts));
}

}  // namespace braid

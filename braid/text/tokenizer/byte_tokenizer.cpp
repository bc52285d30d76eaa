#include "braid/base/format.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/text/tokenizer/utf8.h"

namespace braid {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

// "<0x0A>", as vocabularies with byte fallback write them; -1 for any other text.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const size_t high = kHex.find(token[3]), low = kHex.find(token[4]);
  return high == kHex.npos || low == kHex.npos ? -1 : static_cast<int>(high * 16 + low);
}

class ByteStream final : public DecodeStream {
 public:
  explicit ByteStream(bool lossy) : lossy_(lossy) {}
  void push(std::string_view token, std::string& out) override {
    const char byte = static_cast<char>(byte_of(token));
    if (lossy_) {
      repair_.push({&byte, 1}, out);
    } else {
      out += byte;
    }
  }
  void finish(std::string& out) override { repair_.finish(out); }

 private:
  bool lossy_;
  Utf8Repair repair_;
};

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
  }
  int32_t vocab_size() const override { return 256; }
  std::optional<int32_t> token_to_id(std::string_view token) const override {
    const int byte = byte_of(token);
    return byte < 0 ? std::nullopt : std::optional<int32_t>(byte);
  }
  std::optional<std::string> id_to_token(int32_t id) const override {
    if (id < 0 || id > 255) return std::nullopt;
    return format("<0x{:02X}>", id);
  }
  bool is_special(int32_t) const override { return false; }
  std::vector<int32_t> special_ids() const override { return {}; }
  bool is_bytes() const override { return true; }
  std::string describe() const override { return "bytes, 256 tokens"; }
  std::unique_ptr<DecodeStream> new_decode_stream(bool lossy) const override {
    return std::make_unique<ByteStream>(lossy);
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> byte_tokenizer() {
  static const auto one = std::make_shared<const ByteTokenizer>();
  return one;
}

}  // namespace braid

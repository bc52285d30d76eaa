#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

namespace {

std::string decode_all(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special,
                       bool lossy) {
  StreamDecoder decoder(tokenizer, skip_special, lossy);
  std::string out;
  for (const int32_t id : ids) out += decoder.push(id);
  return out += decoder.finish();
}

}  // namespace

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  return decode_all(*this, ids, skip_special, true);
}

std::string Tokenizer::decode_bytes(std::span<const int32_t> ids, bool skip_special) const {
  return decode_all(*this, ids, skip_special, false);
}

std::string Tokenizer::spelled(std::optional<int32_t> id) const {
  return id.has_value() ? id_to_token(*id).value_or("") : "";
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special, bool lossy)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      stream_(tokenizer.new_decode_stream(lossy)) {}

std::string StreamDecoder::push(int32_t id) {
  std::string out;
  if (skip_special_ && tokenizer_.is_special(id)) return out;
  if (const std::optional<std::string> token = tokenizer_.id_to_token(id)) {
    stream_->push(*token, out);
  }
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  stream_->finish(out);
  return out;
}

}  // namespace braid

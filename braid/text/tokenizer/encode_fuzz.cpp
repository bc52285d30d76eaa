// Any bytes, encoded by a byte-level vocabulary and decoded again, are the same bytes; the stream
// of their decoder is the decoder's whole.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/text/tokenizer/bpe_trainer.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/text/tokenizer/unicode.h"

namespace {

std::vector<std::shared_ptr<const braid::Tokenizer>> make_tokenizers() {
  std::vector<std::shared_ptr<const braid::Tokenizer>> all;
  for (const std::string_view cut : braid::cut_style_names()) {
    braid::BpeTrainOptions o;
    o.vocab = 300;
    o.cut = cut;
    o.special = {"<|endoftext|>"};
    braid::BpeTrainer trainer(o);
    trainer.add("the there then them 'll it's 123 1234 \n\n  \xE4\xB8\x96\xE7\x95\x8C the there");
    trainer.add(" \xE4\xB8\x96\xE7\x95\x8C <|endoftext the  \n\n  123 aaaa aaaa");
    const std::string json = braid::tokenizer_json(trainer.train([](int64_t) { return true; }));
    all.push_back(braid::parse_tokenizer_json(json));
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = make_tokenizers();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& t : tokenizers) {
    const std::vector<int32_t> ids = t->encode(text);
    BRAID_CHECK(t->decode_bytes(ids) == text);
    braid::StreamDecoder stream(*t, false);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id);
    streamed += stream.finish();
    BRAID_CHECK(streamed == t->decode(ids));
    BRAID_CHECK(braid::valid_utf8_prefix(streamed) == streamed.size());
  }
  return 0;
}

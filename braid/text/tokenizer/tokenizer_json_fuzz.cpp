// Any bytes are a tokenizer.json that encodes and decodes some text, or throw
// braid::Error(kBadInput).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/text/tokenizer/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto t = braid::parse_tokenizer_json({reinterpret_cast<const char*>(data), size});
    const auto ids = t->encode("The a b aab  \xE4\xB8\x96\n12 <s>x</s> \xFF'll ");
    std::string repaired;
    braid::Utf8Repair repair;
    const std::string text = t->decode(ids);
    repair.push(text, repaired);
    repair.finish(repaired);
    BRAID_CHECK(repaired == text);
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
  }
  return 0;
}

// Any bytes are a regex that matches without leaving its text, or throw braid::Error(kBadInput).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/text/tokenizer/regex.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 200) return 0;  // longer ones only cost time
  const std::string_view pattern(reinterpret_cast<const char*>(data), size);
  const std::string_view text = "aab 12\n\xE4\xB8\x96 'S\xFFzz ";
  for (const auto syntax : {braid::RegexSyntax::kOniguruma, braid::RegexSyntax::kRust}) {
    try {
      const braid::Regex regex(pattern, syntax);
      braid::Regex::Scratch scratch;
      std::vector<braid::Range> ranges;
      regex.find_all(text, scratch, ranges);
      size_t at = 0;
      for (const braid::Range& r : ranges) {
        BRAID_CHECK(r.begin >= at && r.end >= r.begin && r.end <= text.size());
        at = r.end;
      }
    } catch (const braid::Error& e) {
      BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
    }
  }
  return 0;
}

#include "braid/text/tokenizer/gguf_vocabulary.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"

namespace braid {

TEST_CASE("two tokens of one spelling around a text have no tokenizer.json") {
  GgufVocabulary v;
  v.model = "gpt2";
  v.tokens = {"a", "<s>", "<s>"};
  v.types = {kNormal, kControl, kControl};
  v.bos = 1;
  v.eos = 2;
  v.add_bos = v.add_eos = true;
  CHECK(tokenizer_from_gguf(v)->encode("a") == std::vector<int32_t>{1, 0, 2});
  CHECK_THROWS_WITH_AS(
      tokenizer_files_of_gguf(v, {}),
      doctest::Contains("tokens 1 and 2, which begin and end a text, are both '<s>'"), Error);
  v.eos = 1;
  CHECK_NOTHROW(tokenizer_files_of_gguf(v, {}));
}

}  // namespace braid

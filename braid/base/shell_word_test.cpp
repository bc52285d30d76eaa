#include "braid/base/shell_word.h"

#include <doctest/doctest.h>

namespace braid {

TEST_CASE("a word as a shell reads it back") {
  CHECK(shell_word("runs/a-1.b") == "runs/a-1.b");
  CHECK(shell_word("my run") == "'my run'");
  CHECK(shell_word("it's") == "'it'\\''s'");
  CHECK(shell_word("2 x (kda, swiglu)") == "'2 x (kda, swiglu)'");
  CHECK(shell_word("$HOME") == "'$HOME'");
  CHECK(shell_word("") == "''");
}

}  // namespace braid

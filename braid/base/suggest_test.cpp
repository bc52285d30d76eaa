#include "braid/base/suggest.h"

#include <doctest/doctest.h>

#include <vector>

namespace braid {
namespace {

TEST_CASE("suggest: edit distance") {
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("kda", "kad") == 1);
  CHECK(edit_distance("KDA", "kda") == 0);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("heads", "head") == 1);
}

TEST_CASE("suggest: how far a pattern is from a text") {
  CHECK(pattern_distance("layers.12.gqa.q_proj.weight", "layers.#.*.weight") == 0);
  CHECK(pattern_distance("layers.12.gqa.q_proj.weight", "layers.#.qga.*") == 2);
  CHECK(pattern_distance("layers.x.gqa", "layers.#.gqa") == 1);
  CHECK(pattern_distance("abc", "*") == 0);
  CHECK(pattern_distance("abc", "") == 3);
  CHECK(pattern_distance("", "ab*") == 2);
  CHECK(pattern_distance("abc", "A?C") == 0);
}

TEST_CASE("suggest: the nearest name, if one is near") {
  const std::vector<std::string_view> names = {"gqa", "kda", "gdn", "swiglu", "heads", "head_dim"};
  CHECK(nearest_name("kad", names) == "kda");
  CHECK(nearest_name("hedas", names) == "heads");
  CHECK(nearest_name("headdim", names) == "head_dim");
  CHECK(nearest_name("swi", names) == "swiglu");
  CHECK(nearest_name("GQA", names) == "gqa");
  CHECK(nearest_name("transformer", names) == "");
  CHECK(nearest_name("x", names) == "");
  CHECK(nearest_name("", names) == "");
  CHECK(nearest_name(std::string(1000, 'a'), names) == "");
  CHECK(suggestion("hedas", names) == "; did you mean 'heads'?");
  CHECK(suggestion("zzz", names) == "; known: gqa, kda, gdn, swiglu, heads, head_dim");
  CHECK(suggestion("zzz", {}) == "");
}

}  // namespace
}  // namespace braid

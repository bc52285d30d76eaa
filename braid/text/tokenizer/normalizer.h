#pragma once
// What happens to a text before it is cut: the "normalizer" of a tokenizer.json.

#include <memory>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/text/tokenizer/regex.h"

namespace braid {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(std::string& text, Regex::Scratch& scratch) const = 0;
};

// A sequence becomes its members; null becomes none. Throws Error(kBadInput) naming the component.
std::vector<std::unique_ptr<Normalizer>> parse_normalizers(const Json& json);

// "pattern": {"String": ...} or {"Regex": ...}
Regex parse_pattern(const Json& json);

// Every match of the pattern becomes `content`.
std::string replace_all(const Regex& pattern, std::string_view text, std::string_view content,
                        Regex::Scratch& scratch);

}  // namespace braid

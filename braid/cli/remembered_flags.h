#pragma once
// What a resumed command has from its first call, so that its folder alone is enough to go on.

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/json.h"

namespace braid {

class RememberedFlags {
 public:
  // All options of `app` but those of the machine (--threads, --mem, --json), --help and --out, the
  // group `other_group` and the names in `others`.
  RememberedFlags(CLI::App& app, std::string_view other_group,
                  const std::vector<std::string_view>& others = {});
  // Of those that were given: a string, or a list of them, by name.
  Json given() const;
  // Those that were not given become what they were; of the group "Budget" none does where one was
  // given. Returns a line for each that was given otherwise than before. Throws Error(kBadInput)
  // for values that no longer fit.
  std::vector<std::string> restore(const Json& saved);

 private:
  std::vector<CLI::Option*> options_;
};

}  // namespace braid

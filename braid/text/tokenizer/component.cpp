#include "braid/text/tokenizer/component.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/utf8.h"

namespace braid {
namespace {

const Json* present(const Json& json, std::string_view key) {
  const Json* member = json.find(key);
  return member == nullptr || member->is_null() ? nullptr : member;
}

}  // namespace

const std::string& component_type(const Json& json) { return json.at("type").as_string(); }

void unknown_component(std::string_view what, const Json& json) {
  throw Error(ErrorKind::kBadInput,
              format("{} '{}' is not known", what, printable(component_type(json))));
}

bool bool_or(const Json& json, std::string_view key, bool otherwise) {
  const Json* m = present(json, key);
  return m == nullptr ? otherwise : m->as_bool();
}

std::string string_or(const Json& json, std::string_view key, std::string_view otherwise) {
  const Json* m = present(json, key);
  return m == nullptr ? std::string(otherwise) : m->as_string();
}

int64_t int_or(const Json& json, std::string_view key, int64_t otherwise) {
  const Json* m = present(json, key);
  return m == nullptr ? otherwise : m->as_int();
}

std::string one_character(const Json& json, std::string_view key) {
  const std::string& s = json.at(key).as_string();
  if (!s.empty()) {
    const CodePoint c = first_code_point(s);
    if (c.valid && static_cast<size_t>(c.bytes) == s.size()) return s;
  }
  throw Error(ErrorKind::kBadInput,
              format("'{}' is '{}'; it must be one character", key, printable(s)));
}

}  // namespace braid

#include "braid/layers/links.h"

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {

void LinkTable::declare(const std::string& name, LinkShape shape) {
  shapes_[name] = std::move(shape);
  ++declared_;
}

const LinkShape& LinkTable::find(std::string_view layer, const std::string& name,
                                 std::string_view kind) {
  const auto found = shapes_.find(name);
  if (found == shapes_.end()) {
    std::string there;
    for (const auto& [known, shape] : shapes_) {
      there += format("{}{} ({})", there.empty() ? "" : ", ", known, shape.kind);
    }
    throw Error(ErrorKind::kUsage,
                format("{}: of={} is the name of no layer before it; {}", layer, name,
                       there.empty() ? format("give one as={}", name) : "there are: " + there));
  }
  if (found->second.kind != kind) {
    throw Error(ErrorKind::kUsage, format("{}: of={} names a {}, and it reads a {}", layer, name,
                                          found->second.kind, kind));
  }
  ++read_;
  return found->second;
}

const LinkShape& find_link(LinkTable* table, std::string_view layer, const std::string& name,
                           std::string_view kind) {
  LinkTable nothing;
  return (table != nullptr ? *table : nothing).find(layer, name, kind);
}

const LinkValue& Links::get(const std::string& name) const {
  const auto found = values_.find(name);
  BRAID_CHECK(found != values_.end());  // LinkTable has seen its publisher
  return found->second;
}

void Links::finish() {
  for (const auto& action : at_end_) action();
  at_end_.clear();
}

const std::vector<std::vector<double>>& ReferenceLinks::get(const std::string& name) const {
  const auto found = values_.find(name);
  BRAID_CHECK(found != values_.end());
  return found->second;
}

}  // namespace braid

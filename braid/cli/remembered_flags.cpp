#include "braid/cli/remembered_flags.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"

namespace braid {
namespace {

constexpr const char* kBudget = "Budget";

// Paths are remembered as they are from every folder.
std::string remembered(const CLI::Option& o, const std::string& value) {
  constexpr std::string_view kPaths[] = {"--data", "--tokenizer", "--init-from"};
  const std::string name = o.get_name();
  const bool path = std::find(std::begin(kPaths), std::end(kPaths), name) != std::end(kPaths);
  return path ? absolute_path(value) : value;
}

Json values_json(const CLI::Option& o) {
  const CLI::results_t& values = o.results();
  if (values.size() == 1) return remembered(o, values[0]);
  Json all = Json::array();
  for (const std::string& v : values) all.push(remembered(o, v));
  return all;
}

CLI::results_t values_of(const Json& saved) {
  if (!saved.is_array()) return {saved.as_string()};
  CLI::results_t all;
  for (const Json& v : saved.elements()) all.push_back(v.as_string());
  return all;
}

}  // namespace

RememberedFlags::RememberedFlags(CLI::App& app, std::string_view other_group,
                                 const std::vector<std::string_view>& others) {
  constexpr std::string_view kOther[] = {"--help", "--out", "--threads", "--mem", "--json"};
  for (CLI::Option* o : app.get_options()) {
    const std::string name = o->get_name();
    const bool other = std::find(std::begin(kOther), std::end(kOther), name) != std::end(kOther) ||
                       std::find(others.begin(), others.end(), name) != others.end();
    if (!other && o->get_group() != other_group) options_.push_back(o);
  }
}

Json RememberedFlags::given() const {
  Json flags = Json::object();
  for (const CLI::Option* o : options_) {
    if (o->count() > 0) flags.set(o->get_name(), values_json(*o));
  }
  return flags;
}

std::vector<std::string> RememberedFlags::restore(const Json& saved) {
  std::vector<std::string> changes;
  const bool new_budget = std::any_of(options_.begin(), options_.end(), [](const CLI::Option* o) {
    return o->get_group() == kBudget && o->count() > 0;
  });
  for (CLI::Option* o : options_) {
    const Json* value = saved.find(o->get_name());
    const bool budget = o->get_group() == kBudget;
    if (o->count() > 0) {
      const std::string now = remembered(*o, o->results().back());
      const std::string before =
          value != nullptr ? remembered(*o, values_of(*value).back()) : o->get_default_str();
      if (!budget && !before.empty() && now != before)
        changes.push_back(
            format("from here on {} is {} instead of {}", o->get_name(), now, before));
      continue;
    }
    if (value == nullptr || (budget && new_budget)) continue;
    try {
      o->add_result(values_of(*value));
      o->run_callback();
    } catch (const CLI::Error& e) {
      throw Error(ErrorKind::kBadInput, e.what());
    }
  }
  return changes;
}

}  // namespace braid

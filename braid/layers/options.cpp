#include "braid/layers/options.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"

namespace braid {
namespace {

std::string place(std::string_view layer, int column) {
  return column > 0 ? format("{} at column {}", layer, column) : std::string(layer);
}

[[noreturn]] void bad_value(std::string_view layer, const Options::Item& item,
                            std::string_view wanted) {
  throw Error(ErrorKind::kUsage, format("{}: {}={} is not {}", place(layer, item.column), item.key,
                                        printable(item.value), wanted));
}

}  // namespace

void Options::set(std::string key, std::string value, int column) {
  items_.push_back({std::move(key), std::move(value), column});
}

std::string Options::str() const {
  std::string out;
  for (const Item& item : items_) {
    if (!out.empty()) out += ',';
    out += item.key;
    out += '=';
    out += item.value;
  }
  return out;
}

OptionReader::OptionReader(std::string_view layer, const Options& options)
    : layer_(layer), options_(options) {
  const std::vector<Options::Item>& items = options.items();
  for (size_t i = 0; i < items.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (items[i].key != items[j].key) continue;
      throw Error(ErrorKind::kUsage,
                  format("{}: option '{}' is given twice, as {} and as {}; keep one",
                         place(layer_, items[i].column), items[i].key, printable(items[j].value),
                         printable(items[i].value)));
    }
  }
}

const Options::Item* OptionReader::take(const char* key) {
  known_.push_back(key);
  for (const Options::Item& item : options_.items()) {
    if (item.key == key) return &item;
  }
  return nullptr;
}

void OptionReader::field(const char* key, int64_t& value, int64_t fallback) {
  value = fallback;
  if (const Options::Item* item = take(key)) {
    const auto parsed = parse_int(item->value);
    if (!parsed) bad_value(layer_, *item, "a whole number");
    // Far above any layer's size; products of two, in bytes, stay far within 64 bits.
    constexpr int64_t kMost = int64_t{1} << 24;
    if (*parsed > kMost || *parsed < -kMost)
      bad_value(layer_, *item, "a whole number of at most 16777216 either way");
    value = *parsed;
  }
}

void OptionReader::field(const char* key, double& value, double fallback) {
  value = fallback;
  if (const Options::Item* item = take(key)) {
    const auto parsed = parse_real(item->value);
    if (!parsed) bad_value(layer_, *item, "a finite number");
    value = *parsed;
  }
}

void OptionReader::field(const char* key, bool& value, bool fallback) {
  value = fallback;
  if (const Options::Item* item = take(key)) {
    const auto parsed = parse_bool(item->value);
    if (!parsed) bad_value(layer_, *item, "true or false");
    value = *parsed;
  }
}

void OptionReader::field(const char* key, std::string& value, const std::string& fallback) {
  const Options::Item* item = take(key);
  value = item ? item->value : fallback;
}

void OptionReader::finish() const {
  const std::vector<std::string_view> names(known_.begin(), known_.end());
  for (const Options::Item& item : options_.items()) {
    bool known = false;
    for (const std::string_view name : names) known = known || name == item.key;
    if (known) continue;
    const std::string hint =
        names.empty() ? format("; {} takes no options", layer_) : suggestion(item.key, names);
    throw Error(ErrorKind::kUsage, format("{}: unknown option '{}'{}", place(layer_, item.column),
                                          printable(item.key), hint));
  }
}

void OptionWriter::field(const char* key, int64_t& value, int64_t fallback) {
  if (value != fallback) out_.set(key, std::to_string(value));
}

void OptionWriter::field(const char* key, double& value, double fallback) {
  if (value != fallback) out_.set(key, shortest_text(value));
}

void OptionWriter::field(const char* key, bool& value, bool fallback) {
  if (value != fallback) out_.set(key, value ? "true" : "false");
}

void OptionWriter::field(const char* key, std::string& value, const std::string& fallback) {
  if (value != fallback) out_.set(key, value);
}

}  // namespace braid

#include "braid/ops/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

using Kind = RopeScaling::Kind;

// The fields of one word, taken from left to right.
class Fields {
 public:
  Fields(std::string_view layer, std::string_view text)
      : layer_(layer), text_(text), fields_(split(text, ':')) {}
  std::string_view kind() const { return fields_[0]; }
  size_t count() const { return fields_.size() - 1; }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kUsage,
                format("{}: rope_scaling={}: {}", layer_, printable(text_), what));
  }
  void expect(size_t count, std::string_view form) const {
    if (this->count() != count)
      fail(format("{} has {} fields, expected {} ({})", kind(), this->count(), count, form));
  }
  double positive(const char* name) {
    const std::string_view text = fields_[++at_];
    const auto value = parse_real(text);
    if (!value || !(*value > 0))
      fail(format("{} is {}, expected a positive number", name, printable(text)));
    return *value;
  }
  bool flag(const char* name) {
    const std::string_view text = fields_[++at_];
    const auto value = parse_bool(text);
    if (!value) fail(format("{} is {}, expected true or false", name, printable(text)));
    return *value;
  }

 private:
  std::string_view layer_, text_;
  std::vector<std::string_view> fields_;
  size_t at_ = 0;
};

void parse_longrope(Fields& f, int64_t rotary, RopeScaling& s) {
  const size_t pairs = static_cast<size_t>(rotary / 2);
  f.expect(2 + 2 * pairs,
           format("ORIGINAL:ATTENTION_FACTOR, then {} short and {} long factors", pairs, pairs));
  s.kind = Kind::kLongrope;
  s.original = f.positive("ORIGINAL");
  s.attention_factor = f.positive("ATTENTION_FACTOR");
  for (size_t i = 0; i < pairs; ++i) s.short_factors.push_back(f.positive("a short factor"));
  for (size_t i = 0; i < pairs; ++i) s.long_factors.push_back(f.positive("a long factor"));
}

void parse_yarn(Fields& f, RopeScaling& s) {
  f.expect(6, "F:ORIGINAL:FAST:SLOW:TRUNCATE:ATTENTION_FACTOR");
  s.kind = Kind::kYarn;
  s.factor = f.positive("F");
  s.original = f.positive("ORIGINAL");
  s.fast = f.positive("FAST");
  s.slow = f.positive("SLOW");
  s.truncate = f.flag("TRUNCATE");
  s.attention_factor = f.positive("ATTENTION_FACTOR");
}

void parse_llama3(Fields& f, RopeScaling& s) {
  f.expect(4, "F:LOW:HIGH:ORIGINAL");
  s.kind = Kind::kLlama3;
  s.factor = f.positive("F");
  s.low = f.positive("LOW");
  s.high = f.positive("HIGH");
  s.original = f.positive("ORIGINAL");
  if (s.high < s.low) f.fail(format("HIGH={} is below LOW={}", s.high, s.low));
}

// Long waves are divided, short ones kept, those between are blended.
double llama3(const RopeScaling& s, double w) {
  const double turns = s.original * w / (2 * std::numbers::pi);  // original / wavelength
  if (turns > s.high) return w;
  if (turns < s.low || s.high == s.low) return w / s.factor;
  const double keep = (turns - s.low) / (s.high - s.low);
  return w * ((1 - keep) / s.factor + keep);
}

// Pairs below the ramp turn often and are kept, those above it are divided.
void yarn(const RopeScaling& s, double theta, int64_t rotary, std::vector<double>& w) {
  const double r = static_cast<double>(rotary);
  const auto pair_of_turns = [&](double turns) {
    return r * std::log(s.original / (2 * std::numbers::pi * turns)) / (2 * std::log(theta));
  };
  double low = pair_of_turns(s.fast), high = pair_of_turns(s.slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, r - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < w.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    w[i] = w[i] * (1 - ramp) + w[i] / s.factor * ramp;
  }
}

}  // namespace

RopeScaling parse_rope_scaling(std::string_view layer, std::string_view text, int64_t rotary) {
  Fields f(layer, text);
  RopeScaling s;
  if (f.kind() == "none") {
    f.expect(0, "nothing more");
  } else if (f.kind() == "linear") {
    f.expect(1, "F");
    s.kind = Kind::kLinear;
    s.factor = f.positive("F");
  } else if (f.kind() == "dynamic") {
    f.expect(2, "F:MAX_POSITIONS");
    s.kind = Kind::kDynamic;
    s.factor = f.positive("F");
    s.original = f.positive("MAX_POSITIONS");
    if (rotary <= 2) f.fail(format("dynamic needs more than one pair, there are {}", rotary / 2));
  } else if (f.kind() == "llama3") {
    parse_llama3(f, s);
  } else if (f.kind() == "yarn") {
    parse_yarn(f, s);
  } else if (f.kind() == "longrope") {
    parse_longrope(f, rotary, s);
  } else {
    f.fail(
        format("{} is none of none, linear, dynamic, llama3, yarn, longrope", printable(f.kind())));
  }
  return s;
}

std::vector<double> rope_frequencies(const RopeScaling& s, double theta, int64_t rotary,
                                     int64_t length) {
  const double r = static_cast<double>(rotary), n = static_cast<double>(length);
  if (s.kind == Kind::kDynamic && n > s.original)
    theta *= std::pow(s.factor * n / s.original - (s.factor - 1), r / (r - 2));
  std::vector<double> w(static_cast<size_t>(rotary / 2));
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = std::pow(theta, -2.0 * static_cast<double>(i) / r);
    if (s.kind == Kind::kLinear) w[i] /= s.factor;
    if (s.kind == Kind::kLlama3) w[i] = llama3(s, w[i]);
    if (s.kind == Kind::kLongrope) w[i] /= (n > s.original ? s.long_factors : s.short_factors)[i];
  }
  if (s.kind == Kind::kYarn) yarn(s, theta, rotary, w);
  return w;
}

}  // namespace braid

// Arithmetic and slices with Python's rules. Whole numbers have 64 bits; what does not fit is an
// error.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/text/jinja/text_format.h"
#include "braid/text/jinja/unicode.h"
#include "braid/text/jinja/value.h"

namespace braid::jinja {
namespace {

constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void fail_operands(Operator op, const Value& a, const Value& b) {
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  fail(format("unsupported operand types for {}: '{}' and '{}'", kSigns[static_cast<int>(op)],
              type_name(a), type_name(b)));
}

[[noreturn]] void fail_overflow() { fail("a whole number does not fit in 64 bits"); }

int64_t floor_div(int64_t a, int64_t b) {
  if (a == INT64_MIN && b == -1) fail_overflow();
  return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}

// Of the sign of b, as in Python.
int64_t floor_mod(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
      if (base == 0) return 0;
      fail_overflow();
    }
  }
  return result;
}

Value whole(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Operator::kAdd:
      if (__builtin_add_overflow(a, b, &result)) fail_overflow();
      return result;
    case Operator::kSub:
      if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
      return result;
    case Operator::kMul:
      if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
      return result;
    case Operator::kDiv:
      if (b == 0) fail("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case Operator::kFloorDiv:
      if (b == 0) fail("integer division or modulo by zero");
      return floor_div(a, b);
    case Operator::kMod:
      if (b == 0) fail("integer division or modulo by zero");
      return floor_mod(a, b);
    case Operator::kPow:
      if (a == 1 || b == 0) return int64_t{1};
      if (a == -1) return b % 2 == 0 ? int64_t{1} : int64_t{-1};
      if (a == 0 && b > 0) return int64_t{0};
      if (b >= 0) return power(a, b);
      if (a == 0) fail("0.0 cannot be raised to a negative power");
      return std::pow(static_cast<double>(a), static_cast<double>(b));
  }
  return {};
}

Value real(Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return a + b;
    case Operator::kSub:
      return a - b;
    case Operator::kMul:
      return a * b;
    case Operator::kDiv:
      if (b == 0) fail("float division by zero");
      return a / b;
    case Operator::kFloorDiv:
      if (b == 0) fail("float floor division by zero");
      return std::floor(a / b);
    case Operator::kMod: {
      if (b == 0) fail("float modulo");
      const double r = std::fmod(a, b);
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case Operator::kPow:
      if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b)) fail("a negative number to a fractional power is not real");
      return std::pow(a, b);
  }
  return {};
}

Value repeated(Heap& heap, const Value& v, int64_t times) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  uint64_t bytes = 0;
  if (v.is_string()) {
    if (__builtin_mul_overflow(v.text().size(), n, &bytes) || bytes > heap.limits().memory) {
      fail(format("a text is longer than {} bytes", heap.limits().memory));
    }
    std::string out;
    out.reserve(bytes);
    if (bytes > 0) {
      for (uint64_t i = 0; i < n; ++i) out += v.text();
    }
    return heap.text(std::move(out));
  }
  const auto& items = v.as<List>().items;
  if (__builtin_mul_overflow(items.size() * sizeof(Value), n, &bytes) ||
      bytes > heap.limits().memory) {
    fail(format("a list needs more than {} bytes", heap.limits().memory));
  }
  std::vector<Value> out;
  out.reserve(bytes / sizeof(Value));
  if (bytes > 0) {
    for (uint64_t i = 0; i < n; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return heap.list(std::move(out), v.kind());
}

bool is_sequence(const Value& v) {
  return v.is_string() || v.is(Kind::kList) || v.is(Kind::kTuple);
}

struct Bounds {
  int64_t start, step, count;
};

// What slice.indices gives for a sequence of n elements.
Bounds bounds(int64_t n, const Value& start, const Value& stop, const Value& step) {
  const auto whole_or = [](const Value& v, int64_t other) {
    if (v.is_none()) return other;
    if (v.is_undefined()) fail_undefined(v);
    if (!v.is_whole()) fail("slice indices must be integers or None");
    return v.as_int();
  };
  const int64_t s = whole_or(step, 1);
  if (s == 0) fail("slice step cannot be zero");
  const int64_t low = s > 0 ? 0 : -1, high = s > 0 ? n : n - 1;
  const auto clip = [&](int64_t i) { return std::clamp(i < 0 ? i + n : i, low, high); };
  const int64_t a = start.is_none() ? (s > 0 ? low : high) : clip(whole_or(start, 0));
  const int64_t b = stop.is_none() ? (s > 0 ? high : low) : clip(whole_or(stop, 0));
  return {a, s, Range(a, b, s).size()};
}

}  // namespace

Value arithmetic(Heap& heap, Operator op, const Value& a, const Value& b) {
  if (a.is_whole() && b.is_whole()) return whole(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return real(op, a.as_real(), b.as_real());
  if (op == Operator::kAdd && a.kind() == b.kind() && is_sequence(a)) {
    if (a.is_string()) {
      heap.work((a.text().size() + b.text().size()) / 64);
      return heap.text(a.text() + b.text());
    }
    heap.work(a.as<List>().items.size() + b.as<List>().items.size());
    std::vector<Value> items = a.as<List>().items;
    const auto& more = b.as<List>().items;
    items.insert(items.end(), more.begin(), more.end());
    return heap.list(std::move(items), a.kind());
  }
  if (op == Operator::kMul) {
    if (is_sequence(a) && b.is_whole()) return repeated(heap, a, b.as_int());
    if (is_sequence(b) && a.is_whole()) return repeated(heap, b, a.as_int());
  }
  if (op == Operator::kMod && a.is_string()) return heap.text(percent_format(heap, a.text(), b));
  fail_operands(op, a, b);
}

Value negate(const Value& v, bool minus) {
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_number())
    fail(format("bad operand type for unary {}: '{}'", minus ? '-' : '+', type_name(v)));
  if (v.is(Kind::kReal)) return minus ? -v.as_real() : v.as_real();
  if (minus && v.as_int() == INT64_MIN) fail_overflow();
  return minus ? -v.as_int() : v.as_int();
}

Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop, const Value& step) {
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_string()) {
    const std::string& s = v.text();
    heap.work(s.size() / 64);
    const auto starts = is_ascii(s) ? std::vector<size_t>{} : character_starts(s);
    const auto n = static_cast<int64_t>(starts.empty() ? s.size() : starts.size() - 1);
    const Bounds b = bounds(n, start, stop, step);
    if (starts.empty() && b.step == 1) {
      return heap.text(s.substr(static_cast<size_t>(b.start), static_cast<size_t>(b.count)));
    }
    std::string out;
    for (int64_t k = 0; k < b.count; ++k) {
      const auto i = static_cast<size_t>(b.start + k * b.step);
      if (starts.empty()) {
        out += s[i];
      } else {
        out.append(s, starts[i], starts[i + 1] - starts[i]);
      }
    }
    heap.work(out.size() / 16);
    return heap.text(std::move(out));
  }
  if (v.is(Kind::kRange)) return slice(heap, heap.list(items_of(heap, v)), start, stop, step);
  if (!is_sequence(v)) fail(format("'{}' object cannot be sliced", type_name(v)));
  const auto& items = v.as<List>().items;
  const Bounds b = bounds(static_cast<int64_t>(items.size()), start, stop, step);
  std::vector<Value> out;
  out.reserve(static_cast<size_t>(b.count));
  for (int64_t k = 0; k < b.count; ++k) {
    out.push_back(items[static_cast<size_t>(b.start + k * b.step)]);
  }
  return heap.list(std::move(out), v.kind());
}

}  // namespace braid::jinja

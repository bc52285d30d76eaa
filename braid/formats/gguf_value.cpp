#include <bit>
#include <cstring>
#include <limits>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/formats/gguf.h"
#include "braid/formats/gguf_kinds.h"

namespace braid {
namespace {

bool integer_kind(GgufKind k) {
  return k != GgufKind::kF32 && k != GgufKind::kF64 && k != GgufKind::kBool &&
         k != GgufKind::kString && k != GgufKind::kArray;
}

bool signed_kind(GgufKind k) {
  return k == GgufKind::kI8 || k == GgufKind::kI16 || k == GgufKind::kI32 || k == GgufKind::kI64;
}

[[noreturn]] void not_a(const char* wanted, const GgufValue& value) {
  throw Error(ErrorKind::kBadInput, format("is {}, not {}", value.describe(), wanted));
}

int64_t extend(uint64_t bits, GgufKind k) {
  if (!signed_kind(k)) return static_cast<int64_t>(bits);
  const int shift = 64 - 8 * static_cast<int>(gguf_kind_bytes(k));
  return static_cast<int64_t>(bits << shift) >> shift;
}

template <typename T>
std::string packed(const T* v, size_t n) {
  return n == 0 ? std::string() : std::string(reinterpret_cast<const char*>(v), n * sizeof(T));
}

}  // namespace

size_t gguf_kind_bytes(GgufKind k) {
  switch (k) {
    case GgufKind::kU8:
    case GgufKind::kI8:
    case GgufKind::kBool:
      return 1;
    case GgufKind::kU16:
    case GgufKind::kI16:
      return 2;
    case GgufKind::kU32:
    case GgufKind::kI32:
    case GgufKind::kF32:
      return 4;
    case GgufKind::kU64:
    case GgufKind::kI64:
    case GgufKind::kF64:
      return 8;
    default:
      return 0;
  }
}

const char* gguf_kind_name(GgufKind k) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(k)];
}

GgufValue GgufValue::scalar(GgufKind kind, uint64_t bits) {
  GgufValue v;
  v.kind_ = kind;
  v.text_ = packed(reinterpret_cast<const char*>(&bits), gguf_kind_bytes(kind));
  return v;
}

GgufValue GgufValue::f32(float x) { return scalar(GgufKind::kF32, std::bit_cast<uint32_t>(x)); }

GgufValue GgufValue::string(std::string text) {
  GgufValue v;
  v.kind_ = GgufKind::kString;
  v.text_ = std::move(text);
  return v;
}

GgufValue GgufValue::strings(std::vector<std::string> texts) {
  GgufValue v;
  v.kind_ = GgufKind::kArray;
  v.element_ = GgufKind::kString;
  v.strings_ = std::move(texts);
  return v;
}

GgufValue GgufValue::i32s(std::span<const int32_t> values) {
  GgufValue v;
  v.kind_ = GgufKind::kArray;
  v.element_ = GgufKind::kI32;
  v.text_ = packed(values.data(), values.size());
  return v;
}

GgufValue GgufValue::f32s(std::span<const float> values) {
  GgufValue v;
  v.kind_ = GgufKind::kArray;
  v.element_ = GgufKind::kF32;
  v.text_ = packed(values.data(), values.size());
  return v;
}

bool GgufValue::is_integer() const { return integer_kind(kind_); }

size_t GgufValue::size() const {
  if (kind_ != GgufKind::kArray) not_a("an array", *this);
  if (element_ == GgufKind::kString) return strings_.size();
  if (element_ == GgufKind::kArray) return arrays_.size();
  return text_.size() / gguf_kind_bytes(element_);
}

uint64_t GgufValue::bits_at(size_t i) const {
  const size_t n = gguf_kind_bytes(kind_ == GgufKind::kArray ? element_ : kind_);
  uint64_t bits = 0;
  std::memcpy(&bits, text_.data() + i * n, n);
  return bits;
}

uint64_t GgufValue::as_uint() const {
  if (!is_integer()) not_a("an integer", *this);
  if (signed_kind(kind_) && extend(bits_at(0), kind_) < 0) not_a("zero or more", *this);
  return static_cast<uint64_t>(extend(bits_at(0), kind_));
}

int64_t GgufValue::as_int() const {
  if (!is_integer()) not_a("an integer", *this);
  const int64_t v = extend(bits_at(0), kind_);
  if (kind_ == GgufKind::kU64 && v < 0) not_a("an integer below 2^63", *this);
  return v;
}

double GgufValue::as_real() const {
  if (kind_ == GgufKind::kF32)
    return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits_at(0))));
  if (kind_ == GgufKind::kF64) return std::bit_cast<double>(bits_at(0));
  if (!is_integer()) not_a("a number", *this);
  return static_cast<double>(as_int());
}

bool GgufValue::as_bool() const {
  if (kind_ != GgufKind::kBool) not_a("a bool", *this);
  return bits_at(0) != 0;
}

const std::string& GgufValue::as_string() const {
  if (kind_ != GgufKind::kString) not_a("a string", *this);
  return text_;
}

const std::vector<std::string>& GgufValue::as_strings() const {
  if (!is_array_of(GgufKind::kString)) not_a("an array of strings", *this);
  return strings_;
}

int64_t GgufValue::int_at(size_t i) const {
  if (kind_ != GgufKind::kArray || (!integer_kind(element_) && element_ != GgufKind::kBool))
    not_a("an array of integers", *this);
  BRAID_CHECK(i < size());
  return extend(bits_at(i), element_);
}

double GgufValue::real_at(size_t i) const {
  if (is_array_of(GgufKind::kF32)) {
    BRAID_CHECK(i < size());
    return static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits_at(i))));
  }
  if (is_array_of(GgufKind::kF64)) {
    BRAID_CHECK(i < size());
    return std::bit_cast<double>(bits_at(i));
  }
  return static_cast<double>(int_at(i));
}

const GgufValue& GgufValue::array_at(size_t i) const {
  if (!is_array_of(GgufKind::kArray)) not_a("an array of arrays", *this);
  BRAID_CHECK(i < arrays_.size());
  return arrays_[i];
}

Json GgufValue::json() const {
  switch (kind_) {
    case GgufKind::kString:
      return text_;
    case GgufKind::kBool:
      return as_bool();
    case GgufKind::kF32:
    case GgufKind::kF64:
      return as_real();
    case GgufKind::kU64:
      return as_uint();
    case GgufKind::kArray:
      break;
    default:
      return as_int();
  }
  Json out = Json::array();
  for (size_t i = 0; i < size(); ++i) {
    if (element_ == GgufKind::kString)
      out.push(strings_[i]);
    else if (element_ == GgufKind::kArray)
      out.push(arrays_[i].json());
    else if (element_ == GgufKind::kBool)
      out.push(int_at(i) != 0);
    else if (element_ == GgufKind::kU64)
      out.push(bits_at(i));
    else if (integer_kind(element_))
      out.push(int_at(i));
    else
      out.push(real_at(i));
  }
  return out;
}

std::string GgufValue::describe() const {
  if (kind_ == GgufKind::kArray)
    return format("an array of {} {}", size(), gguf_kind_name(element_));
  std::string text = json().dump();
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return format("the {} {}", gguf_kind_name(kind_), text);
}

}  // namespace braid

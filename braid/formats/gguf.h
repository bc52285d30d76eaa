#pragma once
// The GGUF container of ggml: typed keys and values, then aligned tensors in ggml's number formats
// (specs/checkpoint-formats.md section 5). Reading is strict and bounded: every count and length is
// held against the bytes that are left before anything is allocated for it.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "braid/formats/byte_source.h"
#include "braid/formats/quant_blocks.h"

namespace braid {

class Json;

enum class GgufKind : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

class GgufValue {
 public:
  GgufValue() = default;
  static GgufValue u32(uint32_t v) { return scalar(GgufKind::kU32, v); }
  static GgufValue i32(int32_t v) { return scalar(GgufKind::kI32, static_cast<uint64_t>(v)); }
  static GgufValue u64(uint64_t v) { return scalar(GgufKind::kU64, v); }
  static GgufValue boolean(bool v) { return scalar(GgufKind::kBool, v ? 1 : 0); }
  static GgufValue f32(float v);
  static GgufValue string(std::string v);
  static GgufValue strings(std::vector<std::string> v);
  static GgufValue i32s(std::span<const int32_t> v);
  static GgufValue f32s(std::span<const float> v);

  GgufKind kind() const { return kind_; }
  GgufKind element() const { return element_; }  // of an array
  size_t size() const;                           // of an array

  bool is_integer() const;  // a scalar of any integer kind, not bool
  bool is_real() const { return kind_ == GgufKind::kF32 || kind_ == GgufKind::kF64; }
  bool is_array_of(GgufKind k) const { return kind_ == GgufKind::kArray && element_ == k; }

  // Each throws Error(kBadInput) with what the value is where it is something else.
  uint64_t as_uint() const;  // any integer kind, not negative
  int64_t as_int() const;    // any integer kind that fits
  double as_real() const;    // F32, F64 or any integer
  bool as_bool() const;
  const std::string& as_string() const;
  const std::vector<std::string>& as_strings() const;  // an array of strings
  // Element i of an array of integers or bools, of reals (or integers), of arrays.
  int64_t int_at(size_t i) const;
  double real_at(size_t i) const;
  const GgufValue& array_at(size_t i) const;

  Json json() const;             // for --json output and tests
  std::string describe() const;  // "u32 7", "array of 3 strings"

 private:
  static GgufValue scalar(GgufKind kind, uint64_t bits);
  uint64_t bits_at(size_t i) const;
  friend class GgufReader;
  friend class GgufWriter;
  GgufKind kind_ = GgufKind::kU8;
  GgufKind element_ = GgufKind::kU8;
  std::string text_;  // a string; or the packed little-endian numbers of a scalar or an array
  std::vector<std::string> strings_;
  std::vector<GgufValue> arrays_;
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // row-major: the file's ne reversed
  uint64_t offset = 0;         // from the start of its file's data
  uint64_t size = 0;           // bytes
  size_t file = 0;             // of a split model
  int64_t count() const;
  int64_t row() const { return shape.empty() ? 1 : shape.back(); }
};

class GgufFile {
 public:
  // Maps the file, and with it all parts of a split model (NAME-00001-of-0000N.gguf; `path` is any
  // of them). Throws Error(kBadInput), naming file and place, for anything that is not exactly a
  // version 2 or 3 file: big-endian ones, broken counts, a key or tensor twice, unknown types,
  // tensors outside the file, misaligned or overlapping.
  static GgufFile open(const std::string& path);
  // One file over bytes in memory; `path` is for messages only.
  static GgufFile parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                        std::string path);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t data_begin() const { return data_begin_; }  // of the first file
  const std::vector<std::pair<std::string, GgufValue>>& values() const { return values_; }
  const GgufValue* find(std::string_view key) const;  // null when there is none
  const GgufValue& at(std::string_view key) const;    // throws, naming the key

  // Typed access that names file and key when the value is of another kind; nullopt when missing.
  std::optional<uint64_t> uint(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  // Keeps the bytes of that tensor alive: for views made from bytes().
  std::shared_ptr<const void> owner(const GgufTensor& tensor) const;
  // Row r of the tensor seen as [count / row, row], as f32. Throws for types that do not decode.
  void decode(const GgufTensor& tensor, int64_t first_row, int64_t rows, float* out) const;

 private:
  friend class GgufReader;
  struct Part {
    std::string path;
    std::shared_ptr<const void> owner;
    std::span<const std::byte> data;
  };
  template <typename Read>
  auto typed(std::string_view key, Read&& read) const;
  void append(GgufFile&& other);
  void index_tensors();
  std::string path_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t data_begin_ = 0;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::map<std::string, size_t, std::less<>> value_by_key_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_by_name_;
  std::vector<Part> parts_;
};

// Collects values and tensors, then streams a version 3 file (AtomicFile).
class GgufWriter {
 public:
  static constexpr uint64_t kAlignment = 32;
  void set(std::string key, GgufValue value);         // keys keep their first order
  const GgufValue* find(std::string_view key) const;  // null when it is not set
  // The source must give ggml_row_bytes of every row. Shape is row-major, at most 4 dimensions.
  void add(std::string name, GgmlType type, std::vector<int64_t> shape, ByteSource source);
  uint64_t write(const std::string& path,
                 const ByteProgress& progress = {}) const;  // bytes of the file

 private:
  struct Item {
    GgufTensor tensor;
    ByteSource source;
  };
  std::string header() const;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::vector<Item> items_;
  std::set<std::string> names_;
  uint64_t next_offset_ = 0;
};

}  // namespace braid

#include <algorithm>
#include <cstring>
#include <limits>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/formats/gguf.h"
#include "braid/formats/gguf_kinds.h"

namespace braid {
namespace {

constexpr int kMaxArrayDepth = 4;
// Values that cost more memory than file: a key, a string of an array, a nested array.
constexpr uint64_t kMaxItems = uint64_t{1} << 24;
constexpr uint64_t kMaxHeld = uint64_t{1} << 30;  // bytes of keys and values together
constexpr uint64_t kMaxParts = 1000;

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}", path, what));
}

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

}  // namespace

// Walks the bytes from front to back; every read is checked against what is left.
class GgufReader {
 public:
  GgufReader(std::span<const std::byte> bytes, std::string path)
      : bytes_(bytes), path_(std::move(path)) {}

  void read(GgufFile& f) {
    char magic[4];
    take(magic, 4, "magic");
    if (std::memcmp(magic, kGgufMagic, 4) != 0) fail("the file does not begin with \"GGUF\"");
    f.version_ = number<uint32_t>("version");
    check_version(f.version_);
    const uint64_t tensors = number<uint64_t>("tensor count");
    const uint64_t values = number<uint64_t>("key count");
    // A key takes 13 bytes at least, a tensor's entry 32 with one dimension, 24 with none.
    check_count(values, 13, "keys");
    for (uint64_t i = 0; i < values; ++i) {
      std::string key = string("a key");
      if (!f.value_by_key_.emplace(key, f.values_.size()).second)
        fail(format("the key \"{}\" is given twice", key));
      where_ = format("key \"{}\"", key);
      GgufValue v = value(kind(), 0);
      where_.clear();
      f.values_.emplace_back(std::move(key), std::move(v));
    }
    set_alignment(f);
    check_count(tensors, 24, "tensors");
    for (uint64_t i = 0; i < tensors; ++i) f.tensors_.push_back(tensor());
    f.data_begin_ = round_up(at_, f.alignment_);
    if (f.data_begin_ > bytes_.size()) {
      // A file without tensor bytes may end with its header.
      f.data_begin_ = bytes_.size();
    }
    check_tensors(f);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    bad(path_, where_.empty() ? what : format("{}: {}", where_, what));
  }

  uint64_t left() const { return bytes_.size() - at_; }

  void take(void* to, uint64_t n, const char* what) {
    if (n > left()) {
      fail(format("{} takes {} bytes at byte {}, but {} are left (a file cut short?)", what, n, at_,
                  left()));
    }
    if (n > 0) std::memcpy(to, bytes_.data() + at_, n);
    at_ += n;
  }

  template <typename T>
  T number(const char* what) {
    T v;
    take(&v, sizeof v, what);
    return v;
  }

  void check_version(uint32_t v) const {
    if (v == 2 || v == 3) return;
    const uint32_t swapped = __builtin_bswap32(v);
    if (swapped >= 1 && swapped <= 3)
      fail("a big-endian GGUF file; only little-endian ones are read");
    fail(format("GGUF version {}; versions 2 and 3 are read", v));
  }

  void check_count(uint64_t n, uint64_t bytes_each, const char* what) {
    if (n > left() / bytes_each)
      fail(format("{} {} cannot be in the {} bytes that are left", n, what, left()));
    items_ += n;
    if (items_ > kMaxItems) fail(format("more than {} keys, strings and arrays", kMaxItems));
  }

  // A damaged length may reach far into the tensors, which are not to be held here.
  void hold(uint64_t n) {
    held_ += n;
    if (held_ > kMaxHeld) fail(format("keys and values of more than {} bytes", kMaxHeld));
  }

  std::string string(const char* what) {
    const uint64_t n = number<uint64_t>("a length");
    if (n > left())
      fail(format("{} of {} bytes at byte {}, but {} are left (a file cut short?)", what, n, at_,
                  left()));
    hold(n);
    std::string s(reinterpret_cast<const char*>(bytes_.data()) + at_, n);
    at_ += n;
    return s;
  }

  GgufKind kind() {
    const uint32_t k = number<uint32_t>("a type");
    if (k > static_cast<uint32_t>(GgufKind::kF64)) fail(format("the unknown value type {}", k));
    return static_cast<GgufKind>(k);
  }

  GgufValue value(GgufKind k, int depth) {
    GgufValue v;
    v.kind_ = k;
    if (k == GgufKind::kString) {
      v.text_ = string("a string");
    } else if (k != GgufKind::kArray) {
      v.text_.resize(gguf_kind_bytes(k));
      take(v.text_.data(), v.text_.size(), "a value");
      check_bools(k, v.text_);
    } else {
      array(v, depth);
    }
    return v;
  }

  void check_bools(GgufKind k, const std::string& bytes) const {
    if (k != GgufKind::kBool) return;
    for (const char c : bytes) {
      if (c != 0 && c != 1)
        fail(format("a bool of value {}", static_cast<int>(static_cast<unsigned char>(c))));
    }
  }

  void array(GgufValue& v, int depth) {
    if (depth >= kMaxArrayDepth) fail(format("arrays nested deeper than {}", kMaxArrayDepth));
    v.element_ = kind();
    const uint64_t n = number<uint64_t>("a count");
    const size_t each = gguf_kind_bytes(v.element_);
    if (each > 0) {
      if (n > left() / each)
        fail(format("{} elements of {} bytes, but {} are left (a file cut short?)", n, each,
                    left()));
      hold(n * each);
      v.text_.resize(n * each);
      take(v.text_.data(), v.text_.size(), "an array");
      check_bools(v.element_, v.text_);
    } else if (v.element_ == GgufKind::kString) {
      check_count(n, 8, "strings");
      v.strings_.reserve(n);
      for (uint64_t i = 0; i < n; ++i) v.strings_.push_back(string("a string"));
    } else {
      check_count(n, 12, "arrays");
      v.arrays_.reserve(n);
      for (uint64_t i = 0; i < n; ++i) v.arrays_.push_back(value(GgufKind::kArray, depth + 1));
    }
  }

  void set_alignment(GgufFile& f) const {
    const GgufValue* v = f.find("general.alignment");
    if (v == nullptr) return;
    const std::optional<uint64_t> n = f.uint("general.alignment");
    if (*n == 0 || *n % 8 != 0 || *n > (uint64_t{1} << 30))
      fail(format("general.alignment is {}, not a multiple of 8", *n));
    f.alignment_ = *n;
  }

  GgufTensor tensor() {
    GgufTensor t;
    t.name = string("a tensor's name");
    if (t.name.empty() || t.name.size() > kGgufMaxName)
      fail(format("a tensor's name of {} bytes; 1 to {} are allowed", t.name.size(), kGgufMaxName));
    where_ = format("tensor \"{}\"", t.name);
    const uint32_t dims = number<uint32_t>("the number of dimensions");
    if (dims == 0 || dims > kGgufMaxDims)
      fail(format("{} dimensions; 1 to {} are allowed", dims, kGgufMaxDims));
    unsigned __int128 count = 1;
    for (uint32_t i = 0; i < dims; ++i) {
      const uint64_t n = number<uint64_t>("a dimension");
      // A zero would also hide the product of the others.
      if (n == 0 || n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail(format("dimension {} is {}", i, n));
      count *= n;
      if (count > static_cast<unsigned __int128>(std::numeric_limits<int64_t>::max()))
        fail("the product of its dimensions is more than 2^63");
      t.shape.push_back(static_cast<int64_t>(n));
    }
    std::reverse(t.shape.begin(), t.shape.end());
    const uint32_t type = number<uint32_t>("the type");
    const GgmlTypeInfo* info = find_ggml_type(type);
    if (info == nullptr) fail(format("the unknown tensor type {}", type));
    t.type = info->type;
    if (t.row() % info->values != 0)
      fail(format("rows of {} values, but {} has blocks of {}", t.row(), info->name, info->values));
    const unsigned __int128 size = count / info->values * info->bytes;
    if (size > bytes_.size())
      fail(format("{} values of {} do not fit in a file of {} bytes", static_cast<uint64_t>(count),
                  info->name, bytes_.size()));
    t.size = static_cast<uint64_t>(size);
    t.offset = number<uint64_t>("the offset");
    where_.clear();
    return t;
  }

  void check_tensors(const GgufFile& f) const {
    const uint64_t data = bytes_.size() - f.data_begin_;
    std::vector<const GgufTensor*> order;
    for (const GgufTensor& t : f.tensors_) {
      if (t.offset % f.alignment_ != 0)
        fail(format("tensor \"{}\" is at {}, not at a multiple of {}", t.name, t.offset,
                    f.alignment_));
      if (t.offset > data || t.size > data - t.offset) {
        fail(
            format("tensor \"{}\" takes {} bytes at {} of the data, but there are {} (a file cut "
                   "short?)",
                   t.name, t.size, t.offset, data));
      }
      order.push_back(&t);
    }
    std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
      return std::pair(a->offset, a->size) < std::pair(b->offset, b->size);
    });
    for (size_t i = 1; i < order.size(); ++i) {
      if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset)
        fail(format("tensors \"{}\" and \"{}\" overlap", order[i - 1]->name, order[i]->name));
    }
  }

  std::span<const std::byte> bytes_;
  std::string path_;
  std::string where_;
  uint64_t at_ = 0;
  uint64_t items_ = 0;
  uint64_t held_ = 0;  // bytes of keys and values
};

GgufFile GgufFile::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                         std::string path) {
  GgufFile f;
  f.path_ = path;
  GgufReader(bytes, path).read(f);
  f.parts_.push_back({std::move(path), std::move(owner), bytes.subspan(f.data_begin_)});
  f.index_tensors();
  return f;
}

void GgufFile::index_tensors() {
  tensor_by_name_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensor_by_name_.emplace(tensors_[i].name, i).second)
      bad(path_, format("the tensor \"{}\" is there twice", tensors_[i].name));
  }
}

void GgufFile::append(GgufFile&& other) {
  for (GgufTensor& t : other.tensors_) {
    t.file = parts_.size();
    tensors_.push_back(std::move(t));
  }
  parts_.push_back(std::move(other.parts_[0]));
}

namespace {

GgufFile open_one(const std::string& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::span<const std::byte> bytes(file->data(), file->size());
  return GgufFile::parse(std::move(file), bytes, path);
}

}  // namespace

GgufFile GgufFile::open(const std::string& path) {
  GgufFile first = open_one(path);
  const uint64_t parts = first.uint("split.count").value_or(1);
  if (parts <= 1) return first;
  if (parts > kMaxParts) bad(path, format("split.count is {}, more than {}", parts, kMaxParts));
  const std::string tail = format("-of-{:05}.gguf", parts);
  const size_t digits = path.size() - std::min(path.size(), tail.size() + 6);
  if (!path.ends_with(tail) || path[digits] != '-')
    bad(path, format("one of {} parts, but its name does not end in -NNNNN{}", parts, tail));
  const std::string stem = path.substr(0, digits);
  const auto part_path = [&](uint64_t i) { return format("{}-{:05}{}", stem, i + 1, tail); };
  for (uint64_t i = 0; i < parts; ++i) {
    if (!path_exists(part_path(i)))
      bad(part_path(i), format("part {} of {} is missing; all parts of a model stand in one folder",
                               i + 1, parts));
  }
  GgufFile all = path == part_path(0) ? std::move(first) : open_one(part_path(0));
  for (uint64_t i = 0; i < parts; ++i) {
    if (i > 0) {
      GgufFile part = open_one(part_path(i));
      if (part.uint("split.no") != i || part.uint("split.count") != parts)
        bad(part.path(), format("split.no and split.count are not {} and {}", i, parts));
      all.append(std::move(part));
    } else if (all.uint("split.no").value_or(0) != 0) {
      bad(all.path(), "split.no of the first part is not 0");
    }
  }
  const std::optional<uint64_t> total = all.uint("split.tensors.count");
  if (total && *total != all.tensors_.size()) {
    bad(all.path(),
        format("split.tensors.count is {}, the parts hold {}", *total, all.tensors_.size()));
  }
  all.index_tensors();
  return all;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = value_by_key_.find(key);
  return found == value_by_key_.end() ? nullptr : &values_[found->second].second;
}

const GgufValue& GgufFile::at(std::string_view key) const {
  const GgufValue* v = find(key);
  if (v == nullptr) bad(path_, format("there is no key \"{}\"", key));
  return *v;
}

template <typename Read>
auto GgufFile::typed(std::string_view key, Read&& read) const {
  const GgufValue* v = find(key);
  using Result = std::optional<std::decay_t<decltype(read(*v))>>;
  if (v == nullptr) return Result();
  try {
    return Result(read(*v));
  } catch (const Error& e) {
    bad(path_, format("key \"{}\" {}", key, e.what()));
  }
}

std::optional<uint64_t> GgufFile::uint(std::string_view key) const {
  return typed(key, [](const GgufValue& v) { return v.as_uint(); });
}
std::optional<double> GgufFile::real(std::string_view key) const {
  return typed(key, [](const GgufValue& v) { return v.as_real(); });
}
std::optional<bool> GgufFile::boolean(std::string_view key) const {
  return typed(key, [](const GgufValue& v) { return v.as_bool(); });
}
std::optional<std::string> GgufFile::string(std::string_view key) const {
  return typed(key, [](const GgufValue& v) { return v.as_string(); });
}

int64_t GgufTensor::count() const {
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  return n;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_by_name_.find(name);
  return found == tensor_by_name_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& t) const {
  return parts_[t.file].data.subspan(t.offset, t.size);
}

std::shared_ptr<const void> GgufFile::owner(const GgufTensor& t) const {
  return parts_[t.file].owner;
}

void GgufFile::decode(const GgufTensor& t, int64_t first_row, int64_t rows, float* out) const {
  const GgmlTypeInfo& info = ggml_type_info(t.type);
  if (!info.decodes)
    bad(path_, format("tensor \"{}\" is {}, which braid does not decode", t.name, info.name));
  const int64_t n = t.row(), bytes_each = ggml_row_bytes(t.type, n);
  const std::byte* at = bytes(t).data() + first_row * bytes_each;
  for (int64_t r = 0; r < rows; ++r) decode_row(t.type, at + r * bytes_each, n, out + r * n);
}

}  // namespace braid

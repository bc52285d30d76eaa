#include "braid/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/formats/quant_blocks.h"

namespace braid {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr int kMaxDepth = 3;  // {"name": {"shape": [..]}}

struct FileType {
  const char* name;
  unsigned bits;
};
constexpr FileType kTypes[] = {
    {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"U16", 16},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"F64", 64},    {"I64", 64},    {"U64", 64},        {"C64", 64},        {"F4", 4},
    {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

unsigned bits_of(std::string_view dtype) {
  for (const FileType& t : kTypes) {
    if (dtype == t.name) return t.bits;
  }
  return 0;
}

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}", path, what));
}

Json parse_header(std::string_view text, const std::string& path) {
  try {
    return Json::parse(text, {.bytes = kMaxHeader, .depth = kMaxDepth});
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

// A list of non-negative integers that an int64 holds.
std::vector<int64_t> sizes_of(const Json& entry, const char* key, const std::string& path,
                              const std::string& name) {
  const Json* found = entry.find(key);
  if (found == nullptr) bad(path, format("tensor \"{}\" has no {}", name, key));
  std::vector<int64_t> out;
  bool fine = found->is_array();
  for (size_t i = 0; fine && i < found->size(); ++i) {
    const Json& n = found->elements()[i];
    fine = n.kind() == Json::Kind::kInt && n.as_int() >= 0;
    if (fine) out.push_back(n.as_int());
  }
  if (!fine)
    bad(path, format("{} of tensor \"{}\" is {}, not a list of sizes", key, name, found->dump()));
  return out;
}

// bits * product of shape in whole bytes; nullopt on overflow or a broken byte.
std::optional<uint64_t> bytes_of(std::span<const int64_t> shape, unsigned bits) {
  unsigned __int128 n = bits;
  bool empty = false;
  for (const int64_t s : shape) {
    // An empty tensor still may not have sizes whose product overflows elsewhere.
    empty = empty || s == 0;
    n *= static_cast<uint64_t>(s == 0 ? 1 : s);
    if (n > static_cast<unsigned __int128>(std::numeric_limits<int64_t>::max()))
      return std::nullopt;
  }
  if (empty) return 0;
  if (n % 8 != 0) return std::nullopt;
  return static_cast<uint64_t>(n / 8);
}

SafetensorsEntry parse_entry(const std::string& name, const Json& value, uint64_t data_bytes,
                             const std::string& path) {
  if (!value.is_object()) bad(path, format("the entry of tensor \"{}\" is not an object", name));
  SafetensorsEntry e;
  e.name = name;
  const Json* dtype = value.find("dtype");
  if (dtype == nullptr || !dtype->is_string())
    bad(path, format("tensor \"{}\" has no dtype", name));
  e.dtype = dtype->as_string();
  e.shape = sizes_of(value, "shape", path, name);
  const std::vector<int64_t> offsets = sizes_of(value, "data_offsets", path, name);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    bad(path, format("data_offsets of tensor \"{}\" are {}, not [begin, end]", name,
                     value.at("data_offsets").dump()));
  }
  e.begin = static_cast<uint64_t>(offsets[0]);
  e.end = static_cast<uint64_t>(offsets[1]);
  if (e.end > data_bytes) {
    bad(path,
        format("tensor \"{}\" ends at byte {} of the data, but there are {} (a file cut short?)",
               name, e.end, data_bytes));
  }
  const unsigned bits = bits_of(e.dtype);
  if (bits == 0) bad(path, format("tensor \"{}\" has the unknown dtype \"{}\"", name, e.dtype));
  const std::optional<uint64_t> expected = bytes_of(e.shape, bits);
  if (!expected || *expected != e.end - e.begin) {
    bad(path,
        format("tensor \"{}\" is {} {} but has {} bytes{}", name, e.dtype, value.at("shape").dump(),
               e.end - e.begin, expected ? format(", not {}", *expected) : ""));
  }
  return e;
}

// Tensors must cover the data without a hole or an overlap, so that no byte has two meanings or
// none.
void check_tiling(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                  const std::string& path) {
  uint64_t at = 0;
  for (const SafetensorsEntry& e : entries) {
    if (e.begin != at) {
      bad(path,
          format("tensor \"{}\" begins at byte {} of the data, {} the end {} of the one before",
                 e.name, e.begin, e.begin < at ? "before" : "past", at));
    }
    at = e.end;
  }
  if (at != data_bytes) {
    bad(path,
        format(
            "the tensors take {} bytes, but the file holds {} (a file cut short or appended to?)",
            at, data_bytes));
  }
}

// Calls use(i, value) for each element of type T, read without alignment.
template <typename T, typename Use>
void each(std::span<const std::byte> bytes, Use&& use) {
  for (size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
    T v;
    std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
    use(i, v);
  }
}

// Dispatches on the integer dtypes; false when `dtype` is none.
template <typename Use>
bool each_integer(std::string_view dtype, std::span<const std::byte> bytes, Use&& use) {
  if (dtype == "BOOL" || dtype == "U8")
    each<uint8_t>(bytes, use);
  else if (dtype == "I8")
    each<int8_t>(bytes, use);
  else if (dtype == "I16")
    each<int16_t>(bytes, use);
  else if (dtype == "U16")
    each<uint16_t>(bytes, use);
  else if (dtype == "I32")
    each<int32_t>(bytes, use);
  else if (dtype == "U32")
    each<uint32_t>(bytes, use);
  else if (dtype == "I64")
    each<int64_t>(bytes, use);
  else if (dtype == "U64")
    each<uint64_t>(bytes, use);
  else
    return false;
  return true;
}

const char* file_name_of(DType t) {
  switch (t) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU8:
      return "U8";
  }
  return "";
}

}  // namespace

int64_t SafetensorsEntry::count() const {  // parse_entry checked that the product fits
  int64_t n = 1;
  for (const int64_t s : shape) n *= s;
  return n;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::span<const std::byte> bytes(file->data(), file->size());
  SafetensorsFile parsed = parse(std::move(file), bytes, path);
  parsed.mapped_ = true;
  return parsed;
}

SafetensorsFile SafetensorsFile::parse(std::shared_ptr<const void> owner,
                                       std::span<const std::byte> bytes, std::string path) {
  SafetensorsFile f;
  f.path_ = std::move(path);
  f.owner_ = std::move(owner);
  if (bytes.size() < 8) {
    bad(f.path_, format("{} bytes are too few for a safetensors file, which begins with 8 bytes of "
                        "header length",
                        bytes.size()));
  }
  uint64_t header;
  std::memcpy(&header, bytes.data(), 8);
  if (header > kMaxHeader) {
    bad(f.path_, format("a header of {} bytes, more than the {} allowed: not a safetensors file?",
                        header, kMaxHeader));
  }
  if (header > bytes.size() - 8) {
    bad(f.path_,
        format("a header of {} bytes in a file of {} (a file cut short?)", header, bytes.size()));
  }
  f.data_ = bytes.subspan(8 + header);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header);
  if (text.empty() || text.front() != '{') bad(f.path_, "the header does not begin with '{'");
  const Json tree = parse_header(text, f.path_);
  for (const auto& [name, value] : tree.members()) {
    if (name != "__metadata__") {
      f.entries_.push_back(parse_entry(name, value, f.data_.size(), f.path_));
      continue;
    }
    if (!value.is_object()) bad(f.path_, "__metadata__ is not an object");
    for (const auto& [key, text_value] : value.members()) {
      if (!text_value.is_string()) bad(f.path_, format("metadata \"{}\" is not a string", key));
      f.metadata_[key] = text_value.as_string();
    }
  }
  std::sort(f.entries_.begin(), f.entries_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  check_tiling(f.entries_, f.data_.size(), f.path_);
  for (size_t i = 0; i < f.entries_.size(); ++i) f.by_name_[f.entries_[i].name] = i;
  return f;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* e = find(name);
  if (e == nullptr) bad(path_, format("there is no tensor \"{}\"", name));
  return *e;
}

void SafetensorsFile::fail(const SafetensorsEntry& entry, const std::string& what) const {
  bad(path_, format("tensor \"{}\" {}", entry.name, what));
}

const std::string& SafetensorsFile::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) bad(path_, format("there is no metadata \"{}\"", key));
  return found->second;
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& e) const {
  return data_.subspan(e.begin, e.end - e.begin);
}

void SafetensorsFile::release(std::string_view name) const {
  const std::span<const std::byte> used = bytes(at(name));
  if (mapped_) done_with(used.data(), used.size());
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const SafetensorsEntry& e = at(name);
  if (e.shape.size() > Shape::kMaxRank) {
    fail(e, format("has {} dimensions; at most {} are supported", e.shape.size(), Shape::kMaxRank));
  }
  DType dtype = DType::kF32;
  if (e.dtype == "BF16")
    dtype = DType::kBF16;
  else if (e.dtype == "I32")
    dtype = DType::kI32;
  else if (e.dtype == "I64")
    dtype = DType::kI64;
  else if (e.dtype == "U8" || e.dtype == "BOOL")
    dtype = DType::kU8;
  else if (e.dtype != "F32")
    fail(e, format("is {}; F32, BF16, I32, I64, U8 or BOOL is needed here", e.dtype));
  std::span<const std::byte> data = bytes(e);
  std::shared_ptr<const void> owner = owner_;
  if (reinterpret_cast<uintptr_t>(data.data()) % dtype_size(dtype) != 0) {
    // Older writers do not align their data; 8 bytes serve every type.
    auto copy = std::make_shared<std::vector<uint64_t>>((data.size() + 7) / 8);
    std::memcpy(copy->data(), data.data(), data.size());
    data = {reinterpret_cast<const std::byte*>(copy->data()), data.size()};
    owner = copy;
  }
  return Tensor::wrap(std::make_shared<Storage>(data.data(), data.size(), std::move(owner)), 0,
                      Shape(std::span<const int64_t>(e.shape)), dtype);
}

Tensor SafetensorsFile::to_f32(const Context& ctx, std::string_view name) const {
  const SafetensorsEntry& e = at(name);
  if (e.shape.size() > Shape::kMaxRank) {
    fail(e, format("has {} dimensions; at most {} are supported", e.shape.size(), Shape::kMaxRank));
  }
  Tensor t = Tensor::empty(ctx, Shape(std::span<const int64_t>(e.shape)));
  if (ctx.dry()) return t;
  float* out = t.data();
  const std::span<const std::byte> in = bytes(e);
  const auto set = [out](size_t i, auto v) { out[i] = static_cast<float>(v); };
  if (e.dtype == "F32") {
    if (!in.empty()) std::memcpy(out, in.data(), in.size());
  } else if (e.dtype == "F64") {
    each<double>(in, set);
  } else if (e.dtype == "BF16") {
    each<uint16_t>(in, [out](size_t i, uint16_t v) { out[i] = bf16_to_f32(v); });
  } else if (e.dtype == "F16") {
    each<uint16_t>(in, [out](size_t i, uint16_t v) { out[i] = f16_to_f32(v); });
  } else if (!each_integer(e.dtype, in, set)) {
    fail(e, format("is {}, which is not converted to f32", e.dtype));
  }
  return t;
}

std::vector<int64_t> SafetensorsFile::to_i64(std::string_view name) const {
  const SafetensorsEntry& e = at(name);
  std::vector<int64_t> out(static_cast<size_t>(e.count()));
  bool fits = true;
  const bool known = each_integer(e.dtype, bytes(e), [&](size_t i, auto v) {
    fits = fits && std::in_range<int64_t>(v);
    out[i] = static_cast<int64_t>(v);
  });
  if (!known) fail(e, format("is {}, not integers", e.dtype));
  if (!fits) fail(e, "has values beyond 2^63");
  return out;
}

SafetensorsItem make_safetensors_item(std::string name, std::string dtype,
                                      std::vector<int64_t> shape) {
  SafetensorsItem item{std::move(name), std::move(dtype), std::move(shape)};
  item.bits = bits_of(item.dtype);
  BRAID_CHECK(item.bits != 0);
  const std::optional<uint64_t> bytes = bytes_of(item.shape, item.bits);
  BRAID_CHECK(bytes.has_value());
  item.bytes = *bytes;
  return item;
}

bool safetensors_before(const SafetensorsItem& a, const SafetensorsItem& b) {
  return a.bits != b.bits ? a.bits > b.bits : a.name < b.name;
}

std::string safetensors_header(const std::vector<SafetensorsItem>& items,
                               const std::map<std::string, std::string>& metadata) {
  Json meta = Json::object();
  for (const auto& [key, value] : metadata) meta.set(key, value);
  std::string text = "{\"__metadata__\":" + meta.dump();
  uint64_t at = 0;
  for (const SafetensorsItem& item : items) {
    Json shape = Json::array();
    for (const int64_t n : item.shape) shape.push(n);
    text += format(",{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                   Json(item.name).dump(), item.dtype, shape.dump(), at, at + item.bytes);
    at += item.bytes;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

void SafetensorsWriter::add(std::string name, Tensor value) {
  BRAID_CHECK(value.defined() && value.contiguous() && names_.insert(name).second);
  std::vector<int64_t> shape;
  for (int i = 0; i < value.rank(); ++i) shape.push_back(value.size(i));
  const char* dtype = file_name_of(value.dtype());
  items_.push_back(
      {make_safetensors_item(std::move(name), dtype, std::move(shape)), std::move(value), {}});
}

void SafetensorsWriter::add_i64(std::string name, std::vector<int64_t> shape,
                                std::vector<int64_t> values) {
  BRAID_CHECK(names_.insert(name).second);
  items_.push_back(
      {make_safetensors_item(std::move(name), "I64", std::move(shape)), {}, std::move(values)});
  BRAID_CHECK(items_.back().head.bytes == items_.back().values.size() * sizeof(int64_t));
}

const void* SafetensorsWriter::Item::data() const {
  if (!tensor.defined()) return values.data();
  switch (head.bits) {
    case 64:
      return tensor.data<int64_t>();
    case 32:
      return tensor.data<int32_t>();
    case 16:
      return tensor.data<uint16_t>();
    default:
      return tensor.data<uint8_t>();
  }
}

template <typename Sink>
void SafetensorsWriter::emit(Sink&& sink) const {
  std::vector<const Item*> order;
  for (const Item& item : items_) order.push_back(&item);
  std::sort(order.begin(), order.end(),
            [](const Item* a, const Item* b) { return safetensors_before(a->head, b->head); });
  std::vector<SafetensorsItem> heads;
  for (const Item* item : order) heads.push_back(item->head);
  const std::string header = safetensors_header(heads, metadata_);
  sink(header.data(), header.size());
  for (const Item* item : order) sink(item->data(), item->head.bytes);
}

SafetensorsWriter::Written SafetensorsWriter::write(const std::string& path,
                                                    const ByteProgress& progress) const {
  uint64_t all = 0;
  for (const Item& item : items_) all += item.head.bytes;
  AtomicFile file(path);
  std::optional<uint64_t> data_begin;
  emit([&](const void* data, size_t bytes) {
    file.write(data, bytes);
    if (!data_begin) data_begin = file.bytes();  // the header comes first
    if (progress) progress(file.bytes() - *data_begin, all);
  });
  file.commit();
  return {file.bytes(), file.digest()};
}

std::string SafetensorsWriter::bytes() const {
  std::string out;
  emit([&](const void* data, size_t bytes) { out.append(static_cast<const char*>(data), bytes); });
  return out;
}

}  // namespace braid

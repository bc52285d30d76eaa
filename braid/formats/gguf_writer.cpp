#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/formats/gguf.h"
#include "braid/formats/gguf_kinds.h"

namespace braid {
namespace {

template <typename T>
void put(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}

void put_string(std::string& out, const std::string& s) {
  put<uint64_t>(out, s.size());
  out += s;
}

uint64_t padding(uint64_t n) {
  return (GgufWriter::kAlignment - n % GgufWriter::kAlignment) % GgufWriter::kAlignment;
}

constexpr char kZeros[GgufWriter::kAlignment] = {};

}  // namespace

void GgufWriter::set(std::string key, GgufValue value) {
  BRAID_CHECK(key != "general.alignment");  // always the default
  for (auto& [k, v] : values_) {
    if (k == key) {
      v = std::move(value);
      return;
    }
  }
  values_.emplace_back(std::move(key), std::move(value));
}

const GgufValue* GgufWriter::find(std::string_view key) const {
  for (const auto& [k, v] : values_) {
    if (k == key) return &v;
  }
  return nullptr;
}

void GgufWriter::add(std::string name, GgmlType type, std::vector<int64_t> shape,
                     ByteSource source) {
  BRAID_CHECK(!name.empty() && name.size() < kGgufMaxName && names_.insert(name).second);
  BRAID_CHECK(!shape.empty() && shape.size() <= kGgufMaxDims);
  GgufTensor t;
  t.name = std::move(name);
  t.type = type;
  t.shape = std::move(shape);
  t.size = static_cast<uint64_t>(ggml_row_bytes(type, t.row())) *
           static_cast<uint64_t>(t.row() > 0 ? t.count() / t.row() : 0);
  t.offset = next_offset_;
  next_offset_ += t.size + padding(t.size);
  items_.push_back({std::move(t), std::move(source)});
}

std::string GgufWriter::header() const {
  std::string out(kGgufMagic, 4);
  put<uint32_t>(out, 3);
  put<uint64_t>(out, items_.size());
  put<uint64_t>(out, values_.size());
  const auto put_value = [&](const GgufValue& v, auto& self) -> void {
    if (v.kind_ == GgufKind::kString) return put_string(out, v.text_);
    if (v.kind_ != GgufKind::kArray) {
      out += v.text_;
      return;
    }
    put<uint32_t>(out, static_cast<uint32_t>(v.element_));
    put<uint64_t>(out, v.size());
    out += v.text_;
    for (const std::string& s : v.strings_) put_string(out, s);
    for (const GgufValue& a : v.arrays_) self(a, self);
  };
  for (const auto& [key, value] : values_) {
    put_string(out, key);
    put<uint32_t>(out, static_cast<uint32_t>(value.kind_));
    put_value(value, put_value);
  }
  for (const Item& item : items_) {
    const GgufTensor& t = item.tensor;
    put_string(out, t.name);
    put<uint32_t>(out, static_cast<uint32_t>(t.shape.size()));
    for (auto n = t.shape.rbegin(); n != t.shape.rend(); ++n)
      put<uint64_t>(out, static_cast<uint64_t>(*n));
    put<uint32_t>(out, static_cast<uint32_t>(t.type));
    put<uint64_t>(out, t.offset);
  }
  return out;
}

uint64_t GgufWriter::write(const std::string& path, const ByteProgress& progress) const {
  AtomicFile file(path);
  const std::string head = header();
  file.write(head);
  file.write(kZeros, padding(head.size()));
  const uint64_t data_begin = file.bytes();
  for (const Item& item : items_) {
    const uint64_t before = file.bytes();
    item.source([&](const void* data, size_t bytes) {
      file.write(data, bytes);
      if (progress) progress(file.bytes() - data_begin, next_offset_);
    });
    BRAID_CHECK(file.bytes() - before == item.tensor.size);
    file.write(kZeros, padding(item.tensor.size));
  }
  file.commit();
  return file.bytes();
}

}  // namespace braid

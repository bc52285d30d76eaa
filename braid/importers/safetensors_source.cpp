#include "braid/importers/safetensors_source.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/formats/quant_blocks.h"
#include "braid/formats/safetensors_folder.h"

namespace braid {
namespace {

constexpr int64_t kMxfp4Values = 32;  // of a block
constexpr size_t kMxfp4Bytes = 16;

using Found = SafetensorsFolder::Found;

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, path + ": " + what);
}

class SafetensorsSource final : public TensorSource {
 public:
  SafetensorsSource(const std::string& folder, int64_t fp8_block)
      : folder_(std::make_shared<const SafetensorsFolder>(SafetensorsFolder::open(folder))),
        path_(folder),
        block_(fp8_block) {
    combine();
  }

  const std::string& path() const override { return path_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }

  std::span<const std::byte> raw(const SourceTensor& t) const override {
    return stored_[t.id].data.bytes();
  }
  void release(const SourceTensor& t) const override {
    const std::span<const std::byte> bytes = raw(t);
    done_with(bytes.data(), bytes.size());
  }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return folder_; }

  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    const Stored& s = stored_[t.id];
    switch (s.kind) {
      case Stored::Kind::kPlain:
        decode_row(s.type, raw(t).data() + ggml_row_bytes(s.type, first * columns), rows * columns,
                   out);
        break;
      case Stored::Kind::kFp8:
        read_fp8(t, s, first, rows, out);
        break;
      case Stored::Kind::kMxfp4:
        read_mxfp4(t, s, first, rows, out);
        break;
      case Stored::Kind::kOther:
        bad(path_, format("tensor \"{}\" is {}, which is no weight", t.name, t.stored));
    }
  }

 private:
  struct Stored {
    enum class Kind { kPlain, kFp8, kMxfp4, kOther } kind = Kind::kOther;
    GgmlType type = GgmlType::kF32;
    Found data{}, scales{};
  };

  void add(SourceTensor t, Stored s) {
    t.id = stored_.size();
    tensors_.push_back(std::move(t));
    stored_.push_back(s);
  }

  // Scales and blocks go with the tensor they belong to.
  void combine() {
    std::set<std::string, std::less<>> taken;
    for (const std::string& name : folder_->names()) {
      const Found found = folder_->at(name);
      const std::string scale = name + "_scale_inv";
      if (found.entry->dtype == "F8_E4M3" && folder_->has(scale)) {
        add_fp8(name, found, folder_->at(scale));
        taken.insert({name, scale});
      } else if (found.entry->dtype == "U8" && name.ends_with("_blocks")) {
        const std::string base = name.substr(0, name.size() - 7);
        if (!folder_->has(base + "_scales")) continue;
        add_mxfp4(base, found, folder_->at(base + "_scales"));
        taken.insert({name, base + "_scales"});
      }
    }
    for (const std::string& name : folder_->names()) {
      if (!taken.contains(name)) add_plain(name, folder_->at(name));
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
    for (size_t i = 1; i < tensors_.size(); ++i) {
      if (tensors_[i].name == tensors_[i - 1].name)
        bad(path_, format("tensor \"{}\" is there twice, plain and in blocks", tensors_[i].name));
    }
  }

  void add_plain(const std::string& name, const Found& f) {
    const SafetensorsEntry& e = *f.entry;
    SourceTensor t{name, e.shape, e.dtype, "", e.end - e.begin};
    Stored s{Stored::Kind::kPlain, GgmlType::kF32, f, {}};
    if (e.dtype == "BF16") {
      s.type = GgmlType::kBF16;
    } else if (e.dtype == "F16") {
      s.type = GgmlType::kF16;
    } else if (e.dtype == "F64") {
      s.type = GgmlType::kF64;
    } else if (e.dtype != "F32") {
      s.kind = Stored::Kind::kOther;
    }
    if (s.kind == Stored::Kind::kPlain && e.dtype != "F64") t.plain = e.dtype;
    add(std::move(t), s);
  }

  void add_fp8(const std::string& name, const Found& f, const Found& scales) {
    const std::vector<int64_t>& shape = f.entry->shape;
    std::vector<int64_t> want = shape;
    for (size_t i = 0; i < 2 && i < want.size(); ++i) {
      int64_t& n = want[want.size() - 1 - i];
      n = (n + block_ - 1) / block_;
    }
    if (shape.size() < 2 || scales.entry->shape != want || scales.entry->dtype != "F32") {
      bad(path_, format("\"{}\" is {} {}; the scales of {} in blocks of {} are F32 {}",
                        scales.entry->name, scales.entry->dtype, shape_text(scales.entry->shape),
                        shape_text(shape), block_, shape_text(want)));
    }
    add({name, shape, "F8_E4M3 in blocks", "",
         f.entry->end - f.entry->begin + scales.entry->end - scales.entry->begin},
        {Stored::Kind::kFp8, GgmlType::kF32, f, scales});
  }

  void add_mxfp4(const std::string& base, const Found& f, const Found& scales) {
    std::vector<int64_t> shape = f.entry->shape;
    const bool blocks = shape.size() >= 2 && shape.back() == static_cast<int64_t>(kMxfp4Bytes);
    if (blocks) shape.pop_back();
    if (!blocks || scales.entry->shape != shape || scales.entry->dtype != "U8") {
      bad(path_, format("\"{}\" is U8 {} and \"{}\" {} {}; MXFP4 is [.., blocks, 16] with scales "
                        "[.., blocks]",
                        f.entry->name, shape_text(f.entry->shape), scales.entry->name,
                        scales.entry->dtype, shape_text(scales.entry->shape)));
    }
    shape.back() *= kMxfp4Values;
    SourceTensor t{base, shape, "MXFP4", "",
                   f.entry->end - f.entry->begin + scales.entry->end - scales.entry->begin};
    t.output_major = true;
    add(std::move(t), {Stored::Kind::kMxfp4, GgmlType::kF32, f, scales});
  }

  void read_fp8(const SourceTensor& t, const Stored& s, int64_t first, int64_t rows,
                float* out) const {
    const int64_t columns = t.shape.back(), height = t.shape[t.shape.size() - 2];
    const int64_t across = (columns + block_ - 1) / block_, down = (height + block_ - 1) / block_;
    const std::byte* bytes = s.data.bytes().data();
    const std::byte* scales = s.scales.bytes().data();
    std::vector<float> row_scales(static_cast<size_t>(across));
    for (int64_t r = first; r < first + rows; ++r, out += columns) {
      const int64_t scale_row = r / height * down + r % height / block_;
      std::memcpy(row_scales.data(), scales + scale_row * across * 4,
                  static_cast<size_t>(across) * 4);
      decode_fp8_row(reinterpret_cast<const uint8_t*>(bytes) + r * columns, columns,
                     row_scales.data(), block_, out);
    }
  }

  void read_mxfp4(const SourceTensor& t, const Stored& s, int64_t first, int64_t rows,
                  float* out) const {
    const int64_t groups = t.shape.back() / kMxfp4Values;
    const auto at = [](const Found& f) {
      return reinterpret_cast<const uint8_t*>(f.bytes().data());
    };
    decode_mxfp4_hf(at(s.data) + first * groups * static_cast<int64_t>(kMxfp4Bytes),
                    at(s.scales) + first * groups, rows * groups, out);
  }

  std::shared_ptr<const SafetensorsFolder> folder_;
  std::string path_;
  int64_t block_;
  std::vector<SourceTensor> tensors_;
  std::vector<Stored> stored_;
};

}  // namespace

std::unique_ptr<TensorSource> open_safetensors_source(const std::string& folder,
                                                      int64_t fp8_block) {
  return std::make_unique<SafetensorsSource>(folder, fp8_block);
}

bool has_safetensors(const std::string& folder) { return SafetensorsFolder::present(folder); }

}  // namespace braid

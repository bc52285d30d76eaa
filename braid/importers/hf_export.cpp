#include "braid/importers/hf_export.h"

#include <algorithm>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/formats/quant_blocks.h"
#include "braid/formats/safetensors_folder.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/model_source.h"
#include "braid/text/tokenizer/model_texts.h"

namespace braid {
namespace {

constexpr int64_t kPieceValues = 1 << 20;  // converted at once

// Written beside `to`, then renamed: the folder appears whole or not at all.
class UnfinishedFolder {
 public:
  explicit UnfinishedFolder(const std::string& to) : to_(to), path_(to + ".unfinished") {
    if (path_exists(to)) {
      throw Error(ErrorKind::kUsage, format("{} exists; name a new folder with -o", to));
    }
    remove_folder(path_);
    make_folders(path_);
  }
  ~UnfinishedFolder() {
    try {
      remove_folder(path_);
    } catch (const Error&) {  // what went wrong before says more
    }
  }
  const std::string& path() const { return path_; }
  void finish() { replace_folder(path_, to_); }

 private:
  std::string to_, path_;
};

void encode(const std::string& dtype, const float* x, int64_t n, std::vector<std::byte>& out) {
  out.resize(static_cast<size_t>(n) * (dtype == "F32" ? 4 : 2));
  for (int64_t i = 0; i < n; ++i) {
    if (dtype == "F32") {
      std::memcpy(out.data() + 4 * i, x + i, 4);
    } else {
      const uint16_t h = dtype == "BF16" ? f32_to_bf16(x[i]) : f32_to_f16(x[i]);
      std::memcpy(out.data() + 2 * i, &h, 2);
    }
  }
}

// A whole tensor, some lines at a time.
void write_tensor(const TensorSource& source, const SourceTensor& t, const std::string& dtype,
                  ByteSink sink) {
  const int64_t columns = std::max<int64_t>(1, t.shape.empty() ? 1 : t.shape.back());
  const int64_t rows = t.count() / columns, most = std::max<int64_t>(1, kPieceValues / columns);
  std::vector<float> values(static_cast<size_t>(std::min(rows, most) * columns));
  std::vector<std::byte> bytes;
  for (int64_t row = 0; row < rows; row += most) {
    const int64_t n = std::min(most, rows - row);
    source.read(t, row, n, columns, values.data());
    encode(dtype, values.data(), n * columns, bytes);
    sink(bytes.data(), bytes.size());
  }
}

}  // namespace

void copy_text_files(const std::string& from, const std::string& to) {
  for (const NamedText& t : read_model_texts(from)) write_file(join_path(to, t.name), t.text);
}

HfExported copy_hf_folder(const std::string& from, const std::string& to, uint64_t shard_bytes,
                          const ByteProgress& progress) {
  HfExported out;
  out.notes = open_hf_checkpoint(from).notes;
  const SafetensorsFolder source = SafetensorsFolder::open(from);
  UnfinishedFolder folder(to);
  SafetensorsFolderWriter writer(folder.path(), shard_bytes);
  for (const SafetensorsFile& file : source.files()) {
    for (const SafetensorsEntry& e : file.entries()) {
      writer.add(e.name, e.dtype, e.shape, [&file, &e](ByteSink sink) {
        const std::span<const std::byte> bytes = file.bytes(e);
        sink(bytes.data(), bytes.size());
      });
    }
  }
  const SafetensorsFolderWriter::Written written = writer.write(progress);
  write_file(join_path(folder.path(), "config.json"), read_file(join_path(from, "config.json")));
  copy_text_files(from, folder.path());
  folder.finish();
  out.bytes = written.bytes;
  out.files = written.files;
  return out;
}

HfExported export_hf(const HfExport& what, const std::string& to, uint64_t shard_bytes) {
  const std::unique_ptr<TensorSource> source = model_source(*what.model, *what.map, to);
  UnfinishedFolder folder(to);
  SafetensorsFolderWriter writer(folder.path(), shard_bytes);
  for (const TensorMap::Entry& e : what.map->tensors) {
    const SourceTensor* t = source->find(e.name);
    const std::string dtype = what.dtype(e.name);
    writer.add(e.name, dtype, e.shape,
               [&source, t, dtype](ByteSink sink) { write_tensor(*source, *t, dtype, sink); });
  }
  const SafetensorsFolderWriter::Written written = writer.write(what.progress);
  write_file(join_path(folder.path(), "config.json"), what.config.dump_pretty());
  if (!what.texts_from.empty()) copy_text_files(what.texts_from, folder.path());
  if (what.tokenizer) write_tokenizer_files(*what.tokenizer, folder.path());
  const std::string generation = join_path(folder.path(), "generation_config.json");
  if (what.generation.size() > 0 && !path_exists(generation))
    write_file(generation, what.generation.dump_pretty());
  folder.finish();
  return {written.bytes, written.files, {}};
}

TensorMap export_map(const FamilyModel& model, const ParameterSet& parameters) {
  TensorNames names;
  names.prefix = model.prefix;
  names.layers = model.layers_name;
  names.slots = model.slots;
  if (model.prefix == "language_model.model.") names.head = "language_model.";
  return map_tensors(model.table, parameters, names);
}

ModelSettings with_one_plus(const ModelSettings& settings) {
  ModelSettings s = settings;
  if (s.norm != NormKind::kRms) return s;
  s.norm = NormKind::kRms1p;
  const auto visit = [](auto& self, std::vector<StackItem>& items) -> void {
    for (StackItem& item : items) {
      self(self, item.items);
      for (LayerSpec& layer : item.layers) {
        const bool normed = layer.name == "gqa" &&
                            layer.options.str().find("qk_norm=head") != std::string::npos &&
                            layer.options.str().find("one_plus") == std::string::npos;
        if (normed) layer.options.set("one_plus", "true");
      }
    }
  };
  visit(visit, s.stack.items);
  return s;
}

void norms_to_one_plus(const Context& ctx, ParameterSet& parameters) {
  for (Parameter& p : parameters) {
    const bool slot = p.name == "norm.weight" || p.name.ends_with(".post_norm.weight") ||
                      matches_pattern(p.name, "layers.#.norm.weight");
    const bool head =
        p.name.ends_with(".gqa.q_norm.weight") || p.name.ends_with(".gqa.k_norm.weight");
    if (!slot && !head) continue;
    Tensor moved = Tensor::empty(ctx, p.value.shape());
    for (int64_t i = 0; i < moved.count(); ++i) moved.data()[i] = p.value.data()[i] - 1.0f;
    set_f32(p, std::move(moved));
  }
}

}  // namespace braid

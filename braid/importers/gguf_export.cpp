#include "braid/importers/gguf_export.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/core/parallel.h"
#include "braid/importers/fill.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_architecture.h"
#include "braid/importers/gguf_generation.h"
#include "braid/importers/gguf_links.h"
#include "braid/importers/gguf_llama3.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/tensor_prefix.h"

namespace braid {
namespace {

constexpr int64_t kBatchValues = int64_t{1} << 22;  // rows made at a time

uint32_t file_type(GgmlType type) {
  switch (type) {
    case GgmlType::kF16:
      return 1;
    case GgmlType::kQ4_0:
      return 2;
    case GgmlType::kQ8_0:
      return 7;
    case GgmlType::kBF16:
      return 32;
    default:
      return 0;
  }
}

// What the checkpoint calls the tensors that links call "model.*" and "lm_head.weight".
struct SourceNames {
  std::string prefix = "model.", head;

  SourceNames(const TensorSource& source, const GgufLink& embedding) {
    if (const char* p = prefix_of(source, embedding.pieces[0].hf.substr(prefix.size()))) prefix = p;
    if (const char* h = head_prefix_of(source)) head = h;
  }
  std::string of(const std::string& link) const {
    return link.starts_with("model.") ? prefix + link.substr(6) : head + link;
  }
};

// Rows of one GGUF tensor, made from the checkpoint's tensors.
class LinkRows {
 public:
  LinkRows(const TensorSource& source, const SourceNames& names, const GgufLink& link)
      : source_(source), link_(link) {
    for (const GgufLink::Piece& p : link.pieces) {
      const SourceTensor* t = source.find(names.of(p.hf));
      if (t == nullptr) fail(format("there is no tensor \"{}\"", names.of(p.hf)));
      std::vector<int64_t> want = p.hf_shape;
      if (link.output_major && !t->output_major)
        std::swap(want[want.size() - 1], want[want.size() - 2]);
      if (squeezed(t->shape) != squeezed(want))
        fail(format("tensor \"{}\" has another shape than config.json says", p.hf));
      tensors_.push_back(t);
    }
    if (link.transposed) return;
    row_.resize(static_cast<size_t>(link.rows()), {-1, -1});
    for (size_t i = 0; i < link.pieces.size(); ++i) {
      const GgufLink::Piece& p = link.pieces[i];
      for (int64_t r = 0; r < p.count; ++r)
        row_[static_cast<size_t>(p.to + r * p.to_step)] = {static_cast<int64_t>(i),
                                                           p.from + r * p.from_step};
    }
    for (const auto& [piece, row] : row_) BRAID_CHECK(piece >= 0);
  }

  bool all_stored(std::string_view type) const {
    return std::all_of(tensors_.begin(), tensors_.end(),
                       [&](const SourceTensor* t) { return t->stored == type; });
  }

  void read(int64_t first, int64_t rows, float* out) const {
    const int64_t columns = link_.columns();
    if (link_.transposed) {
      for (int64_t r = first; r < first + rows; ++r) transposed(r, out + (r - first) * columns);
    }
    for (int64_t r = 0; r < rows && !link_.transposed;) {
      const auto [piece, row] = row_[static_cast<size_t>(first + r)];
      const int64_t step = link_.pieces[static_cast<size_t>(piece)].from_step;
      int64_t run = 1;
      while (r + run < rows && row_[static_cast<size_t>(first + r + run)].first == piece &&
             row_[static_cast<size_t>(first + r + run)].second == row + run * step)
        ++run;
      read_run(static_cast<size_t>(piece), row, step, run, out + r * columns);
      r += run;
    }
    if (!link_.columns_from.empty()) {
      for (int64_t r = 0; r < rows; ++r) to_file_columns(link_, out + r * columns);
    }
    finish(out, rows * columns);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kBadInput, source_.path() + ": " + what);
  }

  void read_run(size_t piece, int64_t row, int64_t step, int64_t count, float* out) const {
    const SourceTensor& t = *tensors_[piece];
    const int64_t columns = link_.columns();
    if (link_.output_major && !t.output_major) {
      const std::vector<int64_t>& shape = link_.pieces[piece].hf_shape;
      read_columns(source_, t, columns, shape[shape.size() - 2], row, step, count, out);
    } else if (step == 1) {
      source_.read(t, row, count, columns, out);
    } else {
      for (int64_t i = 0; i < count; ++i)
        source_.read(t, row + i * step, 1, columns, out + i * columns);
    }
  }

  // One row of the transposed matrix: a column of the piece's rows.
  void transposed(int64_t r, float* out) const {
    const size_t i = static_cast<size_t>(r / link_.to_rows);
    const GgufLink::Piece& p = link_.pieces[i];
    const int64_t width = link_.to_rows;
    std::vector<float> row(static_cast<size_t>(width));
    for (int64_t j = 0; j < p.count; ++j) {
      source_.read(*tensors_[i], p.from + j, 1, width, row.data());
      out[j] = row[static_cast<size_t>(r - p.to)];
    }
  }

  void finish(float* out, int64_t n) const {
    if (link_.value == GgufLink::Value::kPlusOne) {
      for (int64_t i = 0; i < n; ++i) out[i] += 1.0f;
    } else if (link_.value == GgufLink::Value::kNegExp) {
      for (int64_t i = 0; i < n; ++i) out[i] = -std::exp(out[i]);
    }
  }

  const TensorSource& source_;
  const GgufLink& link_;
  std::vector<const SourceTensor*> tensors_;
  std::vector<std::pair<int64_t, int64_t>> row_;  // piece, row of the checkpoint's tensor
};

ByteSource bytes_of(const Context& ctx, std::shared_ptr<const LinkRows> rows, int64_t count,
                    int64_t columns, GgmlType type) {
  return [=, &ctx](ByteSink sink) {
    const int64_t batch = std::max<int64_t>(1, kBatchValues / columns);
    const int64_t bytes = ggml_row_bytes(type, columns);
    const int64_t grain = std::max<int64_t>(1, (1 << 16) / columns);
    const Tensor values = Tensor::empty(ctx, {std::min(batch, count), columns});
    const Tensor encoded = Tensor::empty(ctx, {std::min(batch, count) * bytes}, DType::kU8);
    for (int64_t first = 0; first < count; first += batch) {
      const int64_t n = std::min(batch, count - first);
      parallel_for(ctx, n, grain, [&](int64_t begin, int64_t end) {
        rows->read(first + begin, end - begin, values.data() + begin * columns);
        for (int64_t r = begin; r < end; ++r)
          encode_row(type, values.data() + r * columns, columns,
                     encoded.data<std::byte>() + r * bytes);
      });
      sink(encoded.data<std::byte>(), static_cast<size_t>(n * bytes));
    }
  };
}

void copy_tokenizer(GgufWriter& writer, const GgufFile& from) {
  for (const auto& [key, value] : from.values()) {
    if (key.starts_with("tokenizer.")) writer.set(key, value);
  }
}

void add_divisors(GgufWriter& writer, const GgufModel& m) {
  if (m.scaling != "llama3" && m.scaling != "longrope") return;
  std::vector<float> values;
  for (const double d : m.scaling == "llama3" ? llama3_divisors(m) : m.divisors)
    values.push_back(static_cast<float>(d));
  writer.add("rope_freqs.weight", GgmlType::kF32, {static_cast<int64_t>(values.size())},
             [values](ByteSink sink) { sink(values.data(), values.size() * sizeof(float)); });
}

// Read back, a file must be the model that config.json describes: what an architecture does not ask
// for, or takes for granted where the class has another default, would be lost without a word.
void check_form(const Json& config, const GgufModel& m, const std::string& source) {
  const auto settings = [&](const Json& c) {
    ModelSettings s = read_config(c, source).model.settings;
    s.tie_embeddings = false;  // the tensors tell
    s.max_position_embeddings = 0;
    return print_settings(s);
  };
  const std::string want = settings(config), got = settings(hf_config_of(m));
  if (want == got) return;
  const auto [one, other] = std::mismatch(want.begin(), want.end(), got.begin(), got.end());
  const auto line = [](const std::string& text, std::string::const_iterator at) {
    const size_t i = static_cast<size_t>(at - text.begin()), begin = text.rfind('\n', i) + 1;
    return printable(text.substr(begin, text.find('\n', i) - begin), 1000);
  };
  throw Error(ErrorKind::kBadInput,
              format("{}: this model has no GGUF form: it has {}, its form {}", source,
                     line(want, one), line(got, other)));
}

}  // namespace

GgufExported export_gguf(const Context& ctx, const GgufExport& what, const std::string& path) {
  BRAID_CHECK(what.source != nullptr && ggml_type_encodes(what.type));
  GgufExported out;
  GgufModel m = gguf_model_of_config(what.config, what.source->path());
  check_form(what.config, m, what.source->path());
  // What the file holds counts: a config may leave it to the class.
  if (!gguf_architecture(m.arch).always_tied) m.tied = head_prefix_of(*what.source) == nullptr;
  GgufWriter writer;
  put_metadata(writer, m);
  writer.set("general.type", GgufValue::string("model"));
  if (!what.name.empty()) writer.set("general.name", GgufValue::string(what.name));
  writer.set("general.file_type", GgufValue::u32(file_type(what.type)));
  writer.set("general.quantization_version", GgufValue::u32(2));
  if (what.vocabulary != nullptr)
    copy_tokenizer(writer, *what.vocabulary);
  else
    put_tokenizer(writer, what.folder, m, out.notes);
  put_generation_defaults(writer, what.generation);
  const std::vector<GgufLink> links = gguf_links(m);
  const SourceNames names(*what.source, links.at(0));
  size_t odd = 0;
  for (const GgufLink& link : links) {
    auto rows = std::make_shared<const LinkRows>(*what.source, names, link);
    GgmlType type = link.keep_f32 ? GgmlType::kF32 : what.type;
    // Smaller than any other and exact.
    if (type != GgmlType::kF32 && rows->all_stored("MXFP4")) type = GgmlType::kMxfp4;
    if (link.columns() % ggml_type_info(type).values != 0) {
      type = GgmlType::kF32;
      ++odd;
    }
    std::vector<int64_t> shape = link.shape;
    if (link.by_element) shape.pop_back();
    writer.add(link.gguf, type, shape, bytes_of(ctx, rows, link.rows(), link.columns(), type));
  }
  add_divisors(writer, m);
  if (m.scaling == "yarn" && (m.beta_fast != 32 || m.beta_slow != 1)) {
    out.notes.push_back(
        format("yarn's beta_fast {} and beta_slow {} are written; llama.cpp takes 32 and 1 for {} "
               "whatever a file says",
               m.beta_fast, m.beta_slow, m.arch));
  }
  if (odd > 0) {
    out.notes.push_back(
        format("{} matrices kept as F32: their rows are no whole number of {} blocks", odd,
               ggml_type_info(what.type).name));
  }
  out.bytes = writer.write(path, what.progress);
  return out;
}

GgufExported convert_to_gguf(const Context& ctx, const std::string& model, GgmlType type,
                             const std::string& path, const ByteProgress& progress) {
  if (is_gguf_file(model)) {
    const auto file = std::make_shared<const GgufFile>(GgufFile::open(model));
    const HfCheckpoint c = open_gguf_checkpoint(file);
    return export_gguf(ctx,
                       {c.source.get(), gguf_hf_config(*file), "", file_name(model), type, progress,
                        file.get(), gguf_generation_defaults(*file)},
                       path);
  }
  const HfCheckpoint c = open_hf_checkpoint(model);
  const std::string file = join_path(model, "config.json");
  const Json config = load_config(file);
  return export_gguf(ctx,
                     {c.source.get(), config, model, file_name(model), type, progress, nullptr,
                      read_generation_defaults(model)},
                     path);
}

}  // namespace braid

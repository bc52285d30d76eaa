#include "braid/importers/gguf_source.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/gguf_links.h"

namespace braid {
namespace {

using Shape = std::vector<int64_t>;

// Older files hold these as the checkpoint does.
constexpr std::pair<const char*, const char*> kWhole[] = {
    {"self_attn.kv_b_proj.weight", "attn_kv_b.weight"},
    {"linear_attn.in_proj_qkvz.weight", "ssm_in.weight"},
};

class GgufSource final : public TensorSource {
 public:
  GgufSource(std::shared_ptr<const GgufFile> file, const GgufModel& model)
      : file_(std::move(file)), links_(gguf_links(model)) {
    collect();
    for (auto& [name, view] : views_) add(name, view);
    add_rest(model.layers);
    std::sort(tensors_.begin(), tensors_.end(),
              [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
  }

  const std::string& path() const override { return file_->path(); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }

  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    const View& v = stored_[t.id];
    if (v.pieces.empty()) fail(t.name, "has no place in the model");
    if (v.pieces.size() == 1 && contiguous(v.pieces[0])) {
      read_flat(v.pieces[0], first * columns, rows * columns, out);
      return;
    }
    if (v.pieces[0].link->by_element) {
      first *= columns;
      rows *= columns;
      columns = 1;
    }
    BRAID_CHECK(columns == t.shape.back() || v.pieces[0].link->columns() == columns);
    for (const Part& part : v.pieces) {
      if (part.link->transposed)
        read_transposed(part, first, rows, columns, out);
      else
        read_strided(part, first, rows, columns, out);
    }
  }

  const std::byte* blocks(const SourceTensor& t, int64_t row) const override {
    for (const Part& part : stored_[t.id].pieces) {
      const GgufTensor& g = *part.tensor;
      const int64_t own = row_of(*part.piece, row);
      if (own < 0) continue;
      if (part.link->transposed || !part.link->columns_from.empty() ||
          part.link->value != GgufLink::Value::kSame || part.link->columns() != t.shape.back() ||
          t.stored != ggml_type_info(g.type).name)
        return nullptr;
      return file_->bytes(g).data() + own * ggml_row_bytes(g.type, t.shape.back());
    }
    return nullptr;
  }

  void release(const SourceTensor& t) const override {
    for (const Part& part : stored_[t.id].pieces) {
      const std::span<const std::byte> bytes = file_->bytes(*part.tensor);
      done_with(bytes.data(), bytes.size());
    }
  }

  std::span<const std::byte> raw(const SourceTensor& t) const override {
    const Part& part = stored_[t.id].pieces.at(0);
    const GgufTensor& g = *part.tensor;
    const size_t begin =
        static_cast<size_t>(ggml_row_bytes(g.type, part.piece->to * part.link->columns()));
    return file_->bytes(g).subspan(begin, static_cast<size_t>(t.bytes));
  }
  std::shared_ptr<const void> owner(const SourceTensor& t) const override {
    return file_->owner(*stored_[t.id].pieces.at(0).tensor);
  }

 private:
  struct Part {
    const GgufLink* link;
    const GgufLink::Piece* piece;
    const GgufTensor* tensor;
  };
  struct View {
    std::vector<Part> pieces;  // by row of the checkpoint's tensor
  };

  static bool contiguous(const Part& part) {
    return part.piece->to_step == 1 && part.piece->from_step == 1 && !part.link->transposed &&
           part.link->columns_from.empty();
  }

  // The file's row that is row `row` of the checkpoint's tensor, -1 when it is of another piece.
  static int64_t row_of(const GgufLink::Piece& p, int64_t row) {
    const int64_t i = (row - p.from) / p.from_step;
    if (row < p.from || (row - p.from) % p.from_step != 0 || i >= p.count) return -1;
    return p.to + i * p.to_step;
  }

  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    throw Error(ErrorKind::kBadInput,
                format("{}: tensor \"{}\" {}", path(), printable(tensor, 100), what));
  }

  const GgufTensor* tensor_of(const GgufLink& link) {
    const GgufTensor* t = file_->find_tensor(link.gguf);
    if (t == nullptr) return nullptr;
    if (squeezed(t->shape) != squeezed(link.shape))
      fail(link.gguf,
           format("is {}; the keys say {}", shape_text(t->shape), shape_text(link.shape)));
    if (!ggml_type_info(t->type).decodes)
      fail(link.gguf, format("is {}, which braid does not decode; a file of this model in Q8_0 or "
                             "a K type (Q2_K to Q6_K) is read",
                             ggml_type_info(t->type).name));
    if (link.columns() % ggml_type_info(t->type).values != 0)
      fail(link.gguf, format("is {}, whose blocks hold more than a row of {}",
                             ggml_type_info(t->type).name, link.columns()));
    used_.insert(link.gguf);
    return t;
  }

  // By tensor of the checkpoint: the parts it is made of. A tensor with a part missing is missing.
  void collect() {
    std::set<std::string> broken;
    for (const GgufLink& link : links_) {
      const GgufTensor* t = tensor_of(link);
      for (const GgufLink::Piece& piece : link.pieces) {
        if (t == nullptr)
          broken.insert(piece.hf);
        else
          views_[piece.hf].pieces.push_back({&link, &piece, t});
      }
    }
    for (const std::string& hf : broken) {
      views_.erase(hf);
      whole(hf);
    }
    for (auto& [name, view] : views_) {
      std::sort(view.pieces.begin(), view.pieces.end(),
                [](const Part& a, const Part& b) { return a.piece->from < b.piece->from; });
    }
  }

  void whole(const std::string& hf) {
    for (const auto& [tail, gguf] : kWhole) {
      if (!hf.ends_with(tail)) continue;
      const std::string layer = hf.substr(std::string_view("model.layers.").size());
      const std::string name = format("blk.{}.{}", layer.substr(0, layer.find('.')), gguf);
      if (file_->find_tensor(name) == nullptr) continue;
      for (const GgufLink& link : links_) {
        if (link.pieces[0].hf != hf) continue;
        GgufLink direct;
        direct.gguf = name;
        direct.shape = link.pieces[0].hf_shape;
        direct.pieces.push_back({hf, direct.shape, 0, 0, direct.shape[0], 1});
        direct_.push_back(std::make_unique<GgufLink>(std::move(direct)));
        const GgufLink& d = *direct_.back();
        views_[hf].pieces.push_back({&d, &d.pieces[0], tensor_of(d)});
        return;
      }
    }
  }

  // Of pieces stored otherwise, the type that takes the most bytes a value.
  static const GgmlTypeInfo& widest(const View& view) {
    const auto size = [](const Part& part) {
      const GgmlTypeInfo& info = ggml_type_info(part.tensor->type);
      return double(info.bytes) / double(info.values);
    };
    const auto most =
        std::max_element(view.pieces.begin(), view.pieces.end(),
                         [&](const Part& a, const Part& b) { return size(a) < size(b); });
    return ggml_type_info(most->tensor->type);
  }

  void add(const std::string& name, View& view) {
    const Part& first = view.pieces[0];
    const GgmlTypeInfo& info = ggml_type_info(first.tensor->type);
    SourceTensor t{name, first.piece->hf_shape, widest(view).name, "", 0};
    for (const Part& part : view.pieces) {
      if (part.link->transposed)
        t.bytes += part.tensor->size / part.link->pieces.size();
      else
        t.bytes += static_cast<uint64_t>(
            ggml_row_bytes(part.tensor->type, part.piece->count * part.link->columns()));
    }
    t.output_major = first.link->output_major;
    if (view.pieces.size() == 1 && contiguous(first) &&
        first.link->value == GgufLink::Value::kSame &&
        (info.type == GgmlType::kF32 || info.type == GgmlType::kF16 ||
         info.type == GgmlType::kBF16)) {
      t.plain = info.name;
    }
    push(std::move(t), std::move(view));
  }

  void push(SourceTensor t, View view) {
    t.id = stored_.size();
    tensors_.push_back(std::move(t));
    stored_.push_back(std::move(view));
  }

  void add_rest(int64_t layers) {
    for (const GgufTensor& g : file_->tensors()) {
      // Its numbers are among the model's settings already.
      if (used_.contains(g.name) || g.name == "rope_freqs.weight") continue;
      std::string name = g.name;
      if (name.starts_with("blk.")) {
        const std::string number = name.substr(4, name.find('.', 4) - 4);
        if (parse_int(number).value_or(-1) >= layers) name = "mtp." + name;
      }
      push({name, g.shape, ggml_type_info(g.type).name, "", g.size}, {});
    }
  }

  void finish(const Part& part, int64_t n, float* out) const {
    if (part.link->value == GgufLink::Value::kPlusOne) {
      for (int64_t i = 0; i < n; ++i) out[i] -= 1.0f;
    } else if (part.link->value == GgufLink::Value::kNegExp) {
      for (int64_t i = 0; i < n; ++i) {
        if (!(out[i] < 0)) fail(part.link->gguf, format("holds {}; decays are below zero", out[i]));
        out[i] = std::log(-out[i]);
      }
    }
  }

  // n values from value `at` on of a part whose rows lie one behind the other.
  void read_flat(const Part& part, int64_t at, int64_t n, float* out) const {
    const GgufTensor& g = *part.tensor;
    const GgmlTypeInfo& info = ggml_type_info(g.type);
    const int64_t begin = part.piece->to * part.link->columns() + at;
    BRAID_CHECK(begin % info.values == 0 && n % info.values == 0);
    decode_row(g.type, file_->bytes(g).data() + begin / info.values * info.bytes, n, out);
    finish(part, n, out);
  }

  void read_strided(const Part& part, int64_t first, int64_t rows, int64_t columns,
                    float* out) const {
    const GgufTensor& g = *part.tensor;
    const int64_t bytes = ggml_row_bytes(g.type, columns);
    const std::byte* base = file_->bytes(g).data();
    for (int64_t r = first; r < first + rows; ++r, out += columns) {
      const int64_t row = row_of(*part.piece, r);
      if (row < 0) continue;
      decode_row(g.type, base + row * bytes, columns, out);
      if (!part.link->columns_from.empty()) from_file_columns(*part.link, out);
      finish(part, columns, out);
    }
  }

  // Rows of the checkpoint are columns of the file's matrix [to_rows, count].
  void read_transposed(const Part& part, int64_t first, int64_t rows, int64_t columns,
                       float* out) const {
    const int64_t begin = std::max(first, part.piece->from);
    const int64_t end = std::min(first + rows, part.piece->from + part.piece->count);
    if (begin >= end) return;
    out += (begin - first) * columns;
    const int64_t height = part.link->to_rows, width = part.piece->count;
    BRAID_CHECK(columns == height);
    std::vector<float> matrix(static_cast<size_t>(height * width));
    const int64_t bytes = ggml_row_bytes(part.tensor->type, width);
    const std::byte* base = file_->bytes(*part.tensor).data() + part.piece->to * bytes;
    for (int64_t i = 0; i < height; ++i)
      decode_row(part.tensor->type, base + i * bytes, width, matrix.data() + i * width);
    for (int64_t r = begin; r < end; ++r, out += columns) {
      for (int64_t i = 0; i < height; ++i)
        out[i] = matrix[static_cast<size_t>(i * width + r - part.piece->from)];
    }
  }

  std::shared_ptr<const GgufFile> file_;
  std::vector<GgufLink> links_;
  std::vector<std::unique_ptr<GgufLink>> direct_;
  std::map<std::string, View> views_;
  std::set<std::string> used_;
  std::vector<SourceTensor> tensors_;
  std::vector<View> stored_;
};

}  // namespace

std::unique_ptr<TensorSource> open_gguf_source(std::shared_ptr<const GgufFile> file,
                                               const GgufModel& model) {
  return std::make_unique<GgufSource>(std::move(file), model);
}

}  // namespace braid

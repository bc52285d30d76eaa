#pragma once
// Which rows of which GGUF tensor are which rows of which Hugging Face tensor: one table, used in
// both directions.

#include <cstdint>
#include <string>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/importers/gguf_model.h"

namespace braid {

struct GgufLink {
  enum class Value {
    kSame,
    kPlusOne,  // the file holds 1 + the checkpoint's: norms whose weight is centred on zero
    kNegExp,   // the file holds -exp(the checkpoint's): decays
  };
  // Rows to, to + to_step, ... of the GGUF tensor are rows from, from + from_step, ... of `hf`.
  // Names begin with "model." whatever the checkpoint's begin with.
  struct Piece {
    std::string hf;
    std::vector<int64_t> hf_shape;
    int64_t to = 0, from = 0, count = 0, to_step = 1, from_step = 1;
  };
  std::string gguf;
  std::vector<int64_t> shape;  // row-major, of the GGUF tensor; rows are its last dimension
  Value value = Value::kSame;
  // The GGUF tensor holds matrices whose rows are the columns of `count` checkpoint rows: matrix
  // of piece p = rows [to, to + to_rows) with count columns each.
  bool transposed = false;
  int64_t to_rows = 0;
  // The checkpoint may hold [.., in, out], the pieces count rows of [.., out, in], as hf_shape says
  // and a file has it.
  bool output_major = false;
  // Blocks of columns that change places: block b of the file's rows is the checkpoint's block
  // columns_from[b].
  std::vector<int64_t> columns_from;
  // Rows of one number, which change places; the file has them without that last dimension.
  bool by_element = false;
  // Kept in f32 in every file: vectors, convolutions, decays, routers.
  bool keep_f32 = false;
  std::vector<Piece> pieces;
  int64_t rows() const;
  int64_t columns() const { return shape.back(); }
};

// A row's blocks of columns from the checkpoint's places to the file's, and back.
void to_file_columns(const GgufLink& link, float* row);
void from_file_columns(const GgufLink& link, float* row);

// The links of a model as its architecture lists them, layer by layer.
class GgufLinkList {
 public:
  using Shape = std::vector<int64_t>;
  explicit GgufLinkList(const GgufModel& model) : m(model) {}
  const GgufModel& model() const { return m; }
  std::vector<GgufLink> take() { return std::move(out_); }

  // Embedding, layers, last norm and head under Llama's names.
  void all(FunctionRef<void(int64_t)> layer);
  void layers(FunctionRef<void(int64_t)> layer);
  void head();

  // Names of this layer in the file and in the checkpoint.
  std::string g(const std::string& name) const;
  std::string h(const std::string& name) const;
  GgufLink& add(const std::string& gguf, const std::string& hf, Shape shape, Shape hf_shape = {});
  GgufLink& add(GgufLink link);
  // A weight, a norm or a bias of this layer: names without ".weight" and ".bias".
  GgufLink& matrix(const std::string& gguf, const std::string& hf, int64_t rows, int64_t columns);
  GgufLink& norm(const std::string& gguf, const std::string& hf, int64_t n);
  GgufLink& bias(const std::string& gguf, const std::string& hf, int64_t n);

  struct Attention {
    bool turned = false;  // the two halves of a rotating head stand side by side in the file
    bool gate = false;    // q holds a gate too
    bool bias = false;    // of q, k and v
    bool out_bias = false;
    bool head_norms = false;   // of q and k, one for all heads
    bool whole_norms = false;  // the same over all channels of q and of k
  };
  void attention(const Attention& a);
  void dense(const std::string& at, int64_t ffn, const std::string& suffix = "");
  // Every layer in Llama's form: a norm, attention, a norm, a gated MLP.
  void llama_layers(const Attention& a);
  struct Experts {
    std::string at = "mlp.";
    std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
    std::string correction = "";  // the bias that only chooses
    std::string shared = "";
    std::string shared_gate = "";
  };
  void experts(const Experts& e);
  // DeepSeek's: kv_b_proj holds k rows and v rows of each head; files hold them apart, k
  // transposed.
  void latent_attention();

  bool centred_norms = false;           // around zero in the checkpoint, around one in the file
  std::string layers_name = "layers.";  // between the prefix and a layer's number

 private:
  void turned(GgufLink& link, int64_t heads);
  void turned_bias(const char* gguf, const std::string& hf, int64_t n, int64_t heads, bool turns);
  void stack(const std::string& gguf, const std::string& at, const std::string& name, int64_t rows,
             int64_t columns);

  const GgufModel& m;
  int64_t i_ = 0;
  std::vector<GgufLink> out_;
};

// All tensors of the model, in the order a file holds them.
std::vector<GgufLink> gguf_links(const GgufModel& model);

}  // namespace braid

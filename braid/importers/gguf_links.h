#pragma once
// Which rows of which GGUF tensor are which rows of which Hugging Face tensor: one table, used in
// both directions.

#include <cstdint>
#include <string>
#include <vector>

#include "braid/importers/gguf_model.h"

namespace braid {

struct GgufLink {
  enum class Value {
    kSame,
    kPlusOne,  // the file holds 1 + the checkpoint's: norms whose weight is centred on zero
    kNegExp,   // the file holds -exp(the checkpoint's): decays
  };
  // Rows to, to + to_step, ... of the GGUF tensor are rows from, from + 1, ... of tensor `hf`.
  struct Piece {
    std::string hf;
    std::vector<int64_t> hf_shape;
    int64_t to = 0, from = 0, count = 0, to_step = 1;
  };
  std::string gguf;
  std::vector<int64_t> shape;  // row-major, of the GGUF tensor; rows are its last dimension
  Value value = Value::kSame;
  // The GGUF tensor holds matrices whose rows are the columns of `count` checkpoint rows: matrix
  // of piece p = rows [to, to + to_rows) with count columns each.
  bool transposed = false;
  int64_t to_rows = 0;
  bool optional = false;  // may be missing from a file
  // Kept in f32 in every file: vectors, convolutions, decays, routers.
  bool keep_f32 = false;
  std::vector<Piece> pieces;
  int64_t rows() const;
  int64_t columns() const { return shape.back(); }
};

// All tensors of the model, in the order a file holds them.
std::vector<GgufLink> gguf_links(const GgufModel& model);

}  // namespace braid

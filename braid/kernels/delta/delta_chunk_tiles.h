#pragma once
// Scratch of one chunk, shared by the forward and the backward pass. C = chunk, n = blocks of the
// chunk at hand. Operand rows of the erase and the read side lie behind each other, so that one
// product serves both: rows [0, 16 n) are r, rows [16 n, 32 n) are q; without delta rule q alone,
// from row 0.

#include "braid/kernels/delta/delta_chunk.h"
#include "braid/kernels/delta/delta_tile.h"

namespace braid {

struct DeltaChunkPlan::Tiles {
  int64_t n = 0;      // blocks
  int64_t q_row = 0;  // where the rows of q begin: 16 n with delta rule, else 0
  int64_t rows = 0;   // q_row + 16 n
  float* rq;          // [2C, kp] r and scale * q
  float* rq_block;    // [2C, kp] the same, decayed from the start of their block (vector decay)
  float*
      rq_chunk;  // [2C, kp] the same, decayed from the start of the chunk (vector decay; else = rq)
  float* k;      // [C, kp]
  float* k_late;  // [C, kp] keys decayed to the end of their block (vector decay)
  float* kt;      // [kp, C] keys^T, decayed to the end of the chunk under vector decay
  float* alpha;   // [C, kp] exp(g) (vector decay)
  float* prefix;  // [C, kp] as delta_vector_decay, like suffix [C, kp], total, before, after
                  // [blocks, kp]
  float* suffix;
  float* total;
  float* before;
  float* after;
  float* whole;       // [kp] decay of the chunk
  float* l;           // [C, C] decay between rows (scalar decay)
  float* erase;       // [C, C] A
  float* read;        // [C, C] P
  float* y;           // [2C, vp] rows times state
  float* u;           // [C, vp] w (.) v, then what is written
  float* state;       // [kp, vp]
  float* from_start;  // [2C] row factors of y: decay from the chunk's start, of r rows and q rows
                      // (scalar decay)
  float* to_end;      // [C] decay to the chunk's end (scalar decay)
  double* sums;       // [C] cumulative log decay (scalar decay)
};

struct DeltaChunkPlan::BackTiles {
  const float* state;  // [kp, vp] S0, the state before the chunk
  float* carry;        // [kp, vp] D: gradient of the state after the chunk, then before it
  float* d_values;  // [2C, vp] gradients: -dX in the rows of r, dO in the rows of q (without delta
                    // rule dX aside)
  float* d_x;       // [C, vp] -dX with delta rule (rows of d_values), dX without
  float* k_end;     // [C, kp] keys decayed to the end of the chunk (vector decay)
  float* key_run;   // [C, kp] running decayed keys (vector decay)
  float* transposed;  // [max(kp, vp, 2C), max(kp, vp, 2C)] operand of a product, transposed
  float* result_t;    // [kp, C] product before it is transposed
  float* d_erase;     // [C, C] dA
  float* d_read;      // [C, C] dP, diagonal zero
  float* d_diagonal;  // [C] diagonal of dP
  float* d_erase_t;   // [C, C]
  float* d_read_t;    // [C, C]
  float* d_rq;        // [2C, kp] gradients of r and scale * q, diagonal of dP left out
  float* dk;          // [C, kp] gradient of k through the scores, diagonal of dP left out
  float* dk_state;    // [C, kp] gradient of k through the state after the chunk
  float* dots;        // [4C + kp] row sums
  float* dg;          // [C, kp] gradient of g (scalar decay: [C])
};

// Asks for the rows of a chunk to come before they are needed, a few at a time between products.
// Rows of a head lie far apart in memory, where the machine does not guess what comes next.
class DeltaChunkPlan::Ahead {
 public:
  // Operands of the steps [first, end) of h.
  Ahead(const DeltaHead<float>& h, int64_t first, int64_t end)
      : h_(h), values_(h.v), step_(first), end_(end) {}
  // Further rows of as many elements for the same tokens.
  void also(DeltaRows<const float> values_by_token) { by_token_ = values_by_token; }
  // Rows [first, end) of as many elements that this chunk needs at its end.
  void current(DeltaRows<const float> rows, int64_t first, int64_t end) {
    out_ = rows;
    out_step_ = first;
    out_end_ = end;
  }
  // What a chunk begins with is `written`; its v is needed at its end only.
  void instead_of_values(DeltaRows<const float> written, DeltaRows<const float> v, int64_t first,
                         int64_t end) {
    values_ = written;
    current(v, first, end);
  }
  // A dense block, fetched evenly over the calls of next().
  void also(const float* block, int64_t count) {
    block_ = block;
    block_end_ = block + count;
  }
  void next() {
    constexpr int64_t kRows = 3, kBlock = 1024;
    for (int64_t i = 0; i < kRows && step_ < end_; ++i, ++step_) row();
    for (int64_t i = 0; i < kRows && out_step_ < out_end_; ++i, ++out_step_)
      fetch(out_[out_step_], h_.value_dim);
    if (block_ == nullptr) return;
    const int64_t count = block_end_ - block_ < kBlock ? block_end_ - block_ : kBlock;
    fetch(block_, count);
    block_ += count;
  }

 private:
  static void fetch(const float* p, int64_t count) {
    constexpr int64_t kLine = 16;
    for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(p + i, 0, 3);
  }
  void row() const {
    const int64_t token = step_ / h_.micro_steps;
    fetch(h_.k[step_], h_.key_dim);
    fetch(values_[step_], h_.value_dim);
    if (h_.b) fetch(h_.b[step_], h_.key_dim);
    if (h_.w) fetch(h_.w[step_], h_.value_dim);
    if (h_.p) fetch(h_.p[step_], h_.key_dim);
    if (token * h_.micro_steps != step_) return;
    fetch(h_.q[token], h_.key_dim);
    if (h_.decay == DeltaDecay::kVector) fetch(h_.g[token], h_.key_dim);
    if (by_token_) fetch(by_token_[token], h_.value_dim);
  }

  const DeltaHead<float>& h_;
  DeltaRows<const float> values_;
  int64_t step_, end_;
  DeltaRows<const float> by_token_;
  DeltaRows<const float> out_;
  int64_t out_step_ = 0, out_end_ = 0;
  const float* block_ = nullptr;
  const float* block_end_ = nullptr;
};

}  // namespace braid

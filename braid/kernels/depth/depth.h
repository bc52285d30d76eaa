#pragma once
// Softmax over depth (Attention Residuals, arXiv 2603.15031): every token mixes the S outputs of
// earlier sub-layers,
//   logit_s = scale r_s (u . v_s),  r_s = (mean v_s^2 + eps)^-1/2,  h = sum_s softmax(logit)_s v_s
// with u = query x norm. Sources are separate [T, D] arrays: v[s] points to the first row of the
// range, rows are D apart.

#include <cstdint>

namespace braid {

struct DepthRead {
  const float* const* v;  // [S]
  int64_t sources;
  int64_t width;   // D
  const float* u;  // [D]
  float eps;
  float scale;
};

// What the backward pass needs of one source of one token.
struct DepthStat {
  float alpha;
  float r;
  float logit;  // without the scale
};

// h [rows, D], stats [rows, S].
void depth_softmax_f32(const DepthRead& read, int64_t rows, float* h, DepthStat* stats);

// dv[s] [rows, D]: written, or added to where add[s]; null = not wanted. du [D] is added to.
// scratch [S].
void depth_softmax_backward_f32(const DepthRead& read, int64_t rows, const DepthStat* stats,
                                const float* dh, float* const* dv, const bool* add, float* du,
                                float* scratch);

// The same read in two phases: Q queries that see the same sources share one pass over them, later
// each merges one more source (specs/depth-and-memory.md section 1.5). u [Q, D]; m, z [Q, T] and
// sum [Q, T, D] with `ld` = T rows between queries: max and sum of exponentials and their weighted
// sum. scratch [Q, S].
void depth_partial_f32(const DepthRead& read, int64_t queries, int64_t rows, int64_t ld, float* m,
                       float* z, float* sum, float* scratch);

// h = merge of one query's (m, z, sum) with the source p [rows, D]; p null: h = sum / z.
void depth_merge_f32(int64_t rows, int64_t width, const float* u, float eps, float scale,
                     const float* m, const float* z, const float* sum, const float* p, float* h);

}  // namespace braid

#pragma once
// The direction Muon moves one matrix in: momentum, then the nearest (approximately) orthogonal
// matrix.

#include <cstdint>

#include "braid/core/context.h"

namespace braid {

enum class MuonVariant {
  kKeller,     // Jordan's: step lr sqrt(max(1, rows/cols))
  kMoonlight,  // arXiv 2502.16982: step lr 0.2 sqrt(max(rows, cols)), so that one lr serves AdamW
               // and Muon
  kNanochat,   // row equilibration, Polar Express, NorMuon's variance reduction (2510.05491),
               // cautious decay
};

struct MuonMatrix {
  int64_t rows = 0;  // output features
  int64_t cols = 0;
  float* weight = nullptr;         // [rows, cols]
  const float* grad = nullptr;     // [rows, cols]
  float* momentum = nullptr;       // [rows, cols]
  float* second_moment = nullptr;  // [max(rows, cols)], kNanochat only
  double flops() const;            // of the iteration, with symmetric products counted once
};

struct MuonSettings {
  MuonVariant variant = MuonVariant::kMoonlight;
  double beta = 0.95;
  double beta2 = 0.9;  // of the second moment
};

// Floats of scratch that muon_direction needs for that matrix.
int64_t muon_scratch_floats(int64_t rows, int64_t cols);

// Advances momentum (and second moment) with grad_scale * grad and returns the update direction O
// [rows, cols], which lies in `scratch`. Products run in fixed row panels under parallel_for:
// bitwise equal for any thread count, inside or outside another parallel_for.
const float* muon_direction(const Context& ctx, const MuonMatrix& matrix,
                            const MuonSettings& settings, float grad_scale, float* scratch);

// The factor that lr is multiplied by for a matrix of that shape.
double muon_lr_factor(MuonVariant variant, int64_t rows, int64_t cols);

// weight <- one step along `direction` with decoupled weight decay (masked for kNanochat).
void muon_apply_direction(const MuonMatrix& matrix, MuonVariant variant, double lr,
                          double weight_decay, const float* direction);

}  // namespace braid

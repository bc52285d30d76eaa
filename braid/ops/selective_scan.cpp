#include "braid/ops/selective_scan.h"

#include <algorithm>
#include <vector>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/scan/selective_scan.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

constexpr double kLog2E = 1.4426950408889634;

struct Sizes {
  int64_t tokens, channels, states, sequences;
};

Sizes check(const SelectiveScanInputs& in, const SelectiveScanParams& p,
            std::span<const int64_t> seq_starts) {
  const Sizes n{in.x.size(0), in.x.size(1), in.b.size(1), std::ssize(seq_starts) - 1};
  BRAID_CHECK(in.raw.shape() == in.x.shape() && in.b.size(0) == n.tokens);
  BRAID_CHECK(in.c.shape() == in.b.shape());
  BRAID_CHECK(p.a_log->value.shape() == (Shape{n.channels, n.states}));
  BRAID_CHECK(p.skip->value.count() == n.channels && p.dt_bias->value.count() == n.channels);
  BRAID_CHECK(seq_starts.front() == 0 && seq_starts.back() == n.tokens);
  if (n.states > kMaxScanState) {
    throw Error(ErrorKind::kUsage, format("selective scan: {} states a channel, {} are the most",
                                          n.states, kMaxScanState));
  }
  return n;
}

// Room for -exp(A_log) log2(e) as [blocks, N, kScanBlock]. With D between its rows, those of a
// vector of channels would fall into one set of the cache where D is a multiple of 1024.
Tensor rates_like(const Context& ctx, const Sizes& n) {
  return Tensor::empty(ctx, {(n.channels + kScanBlock - 1) / kScanBlock, n.states, kScanBlock});
}

// Fills the block's part.
void fill_rates(const Sizes& n, const Parameter& a_log, int64_t channel, const Tensor& a2) {
  const int64_t at = channel * n.states, width = std::min(kScanBlock, n.channels - channel);
  selective_scan_rates(a_log.value.data() + at, width, n.states, a2.data() + at, kScanBlock);
}

int64_t chunks_of(int64_t tokens) { return (tokens + kScanChunk - 1) / kScanChunk; }

ScanOperands operands(const SelectiveScanInputs& in, const SelectiveScanParams& p, const Tensor& a2,
                      int64_t first, int64_t tokens, int64_t channel) {
  const Rows x = rows_of(in.x), raw = rows_of(in.raw), b = rows_of(in.b), c = rows_of(in.c);
  ScanOperands s;
  s.tokens = tokens;
  s.channels = std::min(kScanBlock, x.cols - channel);
  s.states = b.cols;
  s.x = in.x.data() + first * x.stride + channel;
  s.ldx = x.stride;
  s.raw = in.raw.data() + first * raw.stride + channel;
  s.ld_raw = raw.stride;
  s.b = in.b.data() + first * b.stride;
  s.ldb = b.stride;
  s.c = in.c.data() + first * c.stride;
  s.ldc = c.stride;
  s.a2 = a2.data() + channel * s.states;
  s.ld_a = kScanBlock;
  s.skip = p.skip->value.data() + channel;
  s.bias = p.dt_bias->value.data() + channel;
  return s;
}

// Calls body(block) for every block of channels; a block goes through the sequences in order, so
// that sums over tokens have one order.
template <typename Body>
void for_blocks(const Context& ctx, int64_t channels, const Body& body) {
  parallel_for(ctx, (channels + kScanBlock - 1) / kScanBlock, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) body(block);
  });
}

}  // namespace

Tensor selective_scan_forward(const Context& ctx, const SelectiveScanInputs& in,
                              const SelectiveScanParams& params,
                              std::span<const int64_t> seq_starts, std::span<float* const> states,
                              Tensor* kept) {
  const Sizes n = check(in, params, seq_starts);
  BRAID_CHECK(states.empty() || std::ssize(states) == n.sequences);
  Tensor y = Tensor::empty(ctx, {n.tokens, n.channels});
  const Tensor a2 = rates_like(ctx, n);
  const Tensor fresh = states.empty() ? Tensor::empty(ctx, {n.states, n.channels}) : Tensor();
  if (kept != nullptr) {
    int64_t chunks = 0;
    for (int64_t s = 0; s < n.sequences; ++s)
      chunks += chunks_of(seq_starts[s + 1] - seq_starts[s]);
    *kept = Tensor::empty(ctx, {chunks, n.states, n.channels});
  }
  // A multiply-add and a product for the state, a multiply-add for the output.
  ctx.count_product(6.0 * static_cast<double>(n.tokens * n.channels * n.states));
  for_blocks(ctx, n.channels, [&](int64_t block) {
    const int64_t channel = block * kScanBlock, width = std::min(kScanBlock, n.channels - channel);
    fill_rates(n, *params.a_log, channel, a2);
    int64_t chunk = 0;
    for (int64_t s = 0; s < n.sequences; ++s) {
      const int64_t first = seq_starts[s], tokens = seq_starts[s + 1] - first;
      float* h = (states.empty() ? fresh.data() : states[static_cast<size_t>(s)]) + channel;
      for (int64_t i = 0; states.empty() && i < n.states; ++i)
        std::fill_n(h + i * n.channels, width, 0.0f);
      float* keep =
          kept == nullptr ? nullptr : kept->data() + chunk * n.states * n.channels + channel;
      selective_scan_f32(operands(in, params, a2, first, tokens, channel), h, n.channels,
                         y.data() + first * n.channels + channel, n.channels, keep, n.channels);
      chunk += chunks_of(tokens);
    }
  });
  return y;
}

SelectiveScanGrads selective_scan_backward(const Context& ctx, const SelectiveScanInputs& in,
                                           const SelectiveScanParams& params,
                                           std::span<const int64_t> seq_starts, const Tensor& kept,
                                           const Tensor& d_out, const Tensor& d_final_states) {
  const Sizes n = check(in, params, seq_starts);
  BRAID_CHECK(d_out.contiguous() && d_out.shape() == (Shape{n.tokens, n.channels}));
  const int64_t blocks = (n.channels + kScanBlock - 1) / kScanBlock;
  const Tensor a2 = rates_like(ctx, n);
  SelectiveScanGrads g;
  g.x = Tensor::empty(ctx, {n.tokens, n.channels});
  g.raw = Tensor::empty(ctx, {n.tokens, n.channels});
  g.b = Tensor::empty(ctx, {n.tokens, n.states});
  g.c = Tensor::empty(ctx, {n.tokens, n.states});
  g.initial_states = Tensor::zeros(ctx, {n.sequences, n.states, n.channels});
  const Tensor db = Tensor::empty(ctx, {blocks, n.tokens, n.states});
  const Tensor dc = Tensor::empty(ctx, {blocks, n.tokens, n.states});
  const Tensor da = Tensor::zeros(ctx, {n.states, n.channels});
  const Tensor dskip = Tensor::zeros(ctx, {n.channels}), dbias = Tensor::zeros(ctx, {n.channels});
  const Tensor scratch = Tensor::empty(ctx, {blocks, selective_scan_scratch()});
  ctx.count_product(18.0 * static_cast<double>(n.tokens * n.channels * n.states));
  for_blocks(ctx, n.channels, [&](int64_t block) {
    const int64_t channel = block * kScanBlock, width = std::min(kScanBlock, n.channels - channel);
    fill_rates(n, *params.a_log, channel, a2);
    int64_t chunk = 0;
    for (int64_t s = 0; s < n.sequences; ++s) {
      const int64_t first = seq_starts[s], tokens = seq_starts[s + 1] - first;
      const int64_t at = first * n.channels + channel;
      float* carry = g.initial_states.data() + s * n.states * n.channels + channel;
      for (int64_t i = 0; d_final_states.defined() && i < n.states; ++i) {
        std::copy_n(d_final_states.data() + (s * n.states + i) * n.channels + channel, width,
                    carry + i * n.channels);
      }
      const ScanGradients to{g.x.data() + at,
                             n.channels,
                             g.raw.data() + at,
                             n.channels,
                             db.data() + (block * n.tokens + first) * n.states,
                             dc.data() + (block * n.tokens + first) * n.states,
                             da.data() + channel,
                             n.channels,
                             dskip.data() + channel,
                             dbias.data() + channel};
      selective_scan_backward_f32(operands(in, params, a2, first, tokens, channel),
                                  kept.data() + chunk * n.states * n.channels + channel, n.channels,
                                  d_out.data() + at, n.channels, carry, n.channels, to,
                                  scratch.data() + block * scratch.size(1));
      chunk += chunks_of(tokens);
    }
  });
  // The blocks' parts of dB and dC, in the order of the blocks.
  parallel_for(ctx, n.tokens * n.states, 1 << 12, [&](int64_t begin, int64_t end) {
    const int64_t stride = n.tokens * n.states;
    for (int64_t i = begin; i < end; ++i) {
      float sum_b = 0, sum_c = 0;
      for (int64_t block = 0; block < blocks; ++block) {
        sum_b += db.data()[block * stride + i];
        sum_c += dc.data()[block * stride + i];
      }
      g.b.data()[i] = sum_b;
      g.c.data()[i] = sum_c;
    }
  });
  // dA_log = dA A; A is a2 / log2(e).
  for_blocks(ctx, n.channels, [&](int64_t block) {
    const int64_t first = block * kScanBlock;
    const float* rates = a2.data() + first * n.states;
    for (int64_t d = first; d < std::min(first + kScanBlock, n.channels); ++d) {
      for (int64_t i = 0; params.a_log->grad.defined() && i < n.states; ++i) {
        const double a = rates[i * kScanBlock + d - first] / kLog2E;
        params.a_log->grad.data()[d * n.states + i] +=
            static_cast<float>(da.data()[i * n.channels + d] * a);
      }
      if (params.skip->grad.defined()) params.skip->grad.data()[d] += dskip.data()[d];
      if (params.dt_bias->grad.defined()) params.dt_bias->grad.data()[d] += dbias.data()[d];
    }
  });
  return g;
}

Tensor selective_scan(const Context& ctx, const SelectiveScanInputs& in,
                      const SelectiveScanParams& params, std::span<const int64_t> seq_starts,
                      std::span<float* const> states) {
  const bool trains =
      params.a_log->grad.defined() || params.skip->grad.defined() || params.dt_bias->grad.defined();
  Tape* tape = recording(ctx, {&in.x, &in.raw, &in.b, &in.c}, trains);
  if (tape == nullptr) return selective_scan_forward(ctx, in, params, seq_starts, states, nullptr);
  Tensor kept;
  Tensor y = selective_scan_forward(ctx, in, params, seq_starts, states, &kept);
  std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
  tape->record(y, [in, params, starts = std::move(starts), kept](Tape& t, const Tensor& dy) {
    SelectiveScanGrads g =
        selective_scan_backward(t.context(), in, params, starts, kept, dy, Tensor());
    t.add(in.x, std::move(g.x));
    t.add(in.raw, std::move(g.raw));
    t.add(in.b, std::move(g.b));
    t.add(in.c, std::move(g.c));
  });
  return y;
}

}  // namespace braid

#include "braid/ops/conv.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/conv/conv.h"

namespace braid {
namespace {

constexpr int64_t kForwardRows = 128, kForwardChannels = 256;
constexpr int64_t kBackwardRows = 512;
constexpr int64_t kRangeElements = 1 << 14;  // work too small for a second thread is not split

// A run of rows of one sequence and a run of channels.
struct Piece {
  int64_t sequence;
  int64_t first_row;  // of the sequence
  ConvRows rows;
  int64_t channel;
  int64_t channels;
  int64_t segment;  // number of the run of rows, the same for all its channel runs
};

std::vector<Piece> cut(std::span<const int64_t> seq_starts, int64_t channels, int64_t rows_each,
                       int64_t channels_each) {
  std::vector<Piece> pieces;
  int64_t segment = 0;
  for (size_t s = 0; s + 1 < seq_starts.size(); ++s) {
    const int64_t length = seq_starts[s + 1] - seq_starts[s];
    for (int64_t r = 0; r < length; r += rows_each, ++segment) {
      for (int64_t c = 0; c < channels; c += channels_each) {
        pieces.push_back({static_cast<int64_t>(s),
                          seq_starts[s],
                          {r, std::min(length, r + rows_each), length},
                          c,
                          std::min(channels_each, channels - c),
                          segment});
      }
    }
  }
  return pieces;
}

int64_t piece_grain(const std::vector<Piece>& pieces) {
  int64_t most = 1;
  for (const Piece& p : pieces) most = std::max(most, (p.rows.end - p.rows.begin) * p.channels);
  return std::max<int64_t>(1, kRangeElements / most);
}

// Taps of `channels` channels, [channels, taps] -> [taps, channels]. With kTaps known (0 = not) the
// loop is one over vectors: a decoded token turns all of a layer's taps for one row.
template <int64_t kTaps>
void turn_taps(const float* __restrict from, int64_t channels, int64_t taps,
               float* __restrict into) {
  const int64_t n = kTaps > 0 ? kTaps : taps;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j < n; ++j) into[j * channels + c] = from[c * n + j];
  }
}

void tap_major(const Tensor& weight, int64_t channel, int64_t channels, float* into) {
  const int64_t taps = weight.size(2);
  const float* from = weight.data() + channel * taps;
  if (taps == 4) return turn_taps<4>(from, channels, taps, into);
  turn_taps<0>(from, channels, taps, into);
}

// [C, 1, Kc] -> [Kc, C]
Tensor tap_major(const Context& ctx, const Tensor& weight) {
  Tensor w = Tensor::empty(ctx, {weight.size(2), weight.size(0)});
  if (!ctx.dry()) tap_major(weight, 0, weight.size(0), w.data());
  return w;
}

void check(const Tensor& x, const Parameter& weight, const Parameter* bias,
           std::span<const int64_t> seq_starts) {
  const Shape& w = weight.value.shape();
  BRAID_CHECK(x.rank() == 2 && (x.size(1) == 1 || x.stride(1) == 1));
  BRAID_CHECK(w.rank() == 3 && w[0] == x.size(1) && w[1] == 1);
  BRAID_CHECK(w[2] >= 1 && w[2] <= kMaxConvTaps);
  BRAID_CHECK(bias == nullptr || bias->value.count() == x.size(1));
  BRAID_CHECK(!seq_starts.empty() && seq_starts.front() == 0 && seq_starts.back() == x.size(0));
}

// The last Kc - 1 rows of (window, x). Copying from the oldest on is safe: sources lie ahead of
// their targets.
void advance_window(float* window, int64_t kept, int64_t channels, const float* x, int64_t ldx,
                    int64_t length) {
  for (int64_t j = 0; j < kept; ++j) {
    const int64_t from = length + j;
    const float* row = from < kept ? window + from * channels : x + (from - kept) * ldx;
    if (row != window + j * channels) {
      std::memcpy(window + j * channels, row, static_cast<size_t>(channels) * sizeof(float));
    }
  }
}

}  // namespace

int64_t max_conv_taps() { return kMaxConvTaps; }

Tensor short_conv(const Context& ctx, const Tensor& x, Parameter& weight,
                  std::span<const int64_t> seq_starts, bool silu, std::span<const Tensor> windows,
                  Parameter* bias) {
  check(x, weight, bias, seq_starts);
  BRAID_CHECK(windows.empty() || windows.size() + 1 == seq_starts.size());
  const int64_t channels = x.size(1), ldx = x.stride(0), kept = weight.value.size(2) - 1;
  for (const Tensor& w : windows) {
    BRAID_CHECK(w.contiguous() && w.shape() == (Shape{kept, channels}));
  }
  Tensor y = Tensor::empty(ctx, {x.size(0), channels});
  const auto pieces = cut(seq_starts, channels, kForwardRows, kForwardChannels);
  parallel_for(
      ctx, static_cast<int64_t>(pieces.size()), piece_grain(pieces),
      [&](int64_t begin, int64_t end) {
        float taps[kMaxConvTaps * kForwardChannels];
        for (int64_t i = begin; i < end; ++i) {
          const Piece& p = pieces[i];
          tap_major(weight.value, p.channel, p.channels, taps);
          const ConvFilter filter{taps, p.channels, static_cast<int>(kept + 1), silu,
                                  bias != nullptr ? bias->value.data() + p.channel : nullptr};
          const float* window = windows.empty() ? nullptr : windows[p.sequence].data() + p.channel;
          short_conv_f32(filter, p.rows, p.channels, x.data() + p.first_row * ldx + p.channel, ldx,
                         window, channels, y.data() + p.first_row * channels + p.channel, channels);
        }
      });
  if (!ctx.dry()) {
    for (size_t s = 0; s < windows.size(); ++s) {
      advance_window(windows[s].data(), kept, channels, x.data() + seq_starts[s] * ldx, ldx,
                     seq_starts[s + 1] - seq_starts[s]);
    }
  }
  if (Tape* tape = recording(ctx, {&x}, weight.grad.defined() || (bias && bias->grad.defined()))) {
    BRAID_CHECK(windows.empty());
    std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
    tape->record(y,
                 [x, &weight, starts = std::move(starts), silu, bias](Tape& t, const Tensor& dy) {
                   t.add(x, short_conv_backward(t.context(), x, weight, starts, silu, dy, bias));
                 });
  }
  return y;
}

Tensor short_conv_backward(const Context& ctx, const Tensor& x, Parameter& weight,
                           std::span<const int64_t> seq_starts, bool silu, const Tensor& dy,
                           Parameter* bias) {
  check(x, weight, bias, seq_starts);
  BRAID_CHECK(dy.contiguous() && dy.shape() == x.shape());
  const int64_t channels = x.size(1), ldx = x.stride(0), taps = weight.value.size(2);
  Tensor dx = Tensor::empty(ctx, x.shape());
  const Tensor w = tap_major(ctx, weight.value);
  const auto pieces = cut(seq_starts, channels, kBackwardRows, kConvBackwardBlock);
  const int64_t segments = pieces.empty() ? 0 : pieces.back().segment + 1;
  // One partial sum per run of rows, added up in order below.
  const int64_t sums = taps + (bias != nullptr ? 1 : 0);
  const Tensor dw = Tensor::zeros(ctx, {segments, sums, channels});
  parallel_for(
      ctx, static_cast<int64_t>(pieces.size()), piece_grain(pieces),
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const Piece& p = pieces[i];
          const ConvFilter filter{w.data() + p.channel, channels, static_cast<int>(taps), silu,
                                  bias != nullptr ? bias->value.data() + p.channel : nullptr};
          const int64_t at = p.first_row * channels + p.channel;
          short_conv_backward_f32(filter, p.rows, p.channels,
                                  x.data() + p.first_row * ldx + p.channel, ldx, dy.data() + at,
                                  channels, dx.data() + at, channels,
                                  dw.data() + p.segment * sums * channels + p.channel, channels);
        }
      });
  // into[c * stride] += the sums of row j over the segments, in their order.
  const auto add_up = [&](int64_t j, float* into, int64_t stride) {
    const float* partial = dw.data() + j * channels;
    parallel_for(ctx, channels, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        float sum = 0;
        for (int64_t s = 0; s < segments; ++s) sum += partial[s * sums * channels + c];
        into[c * stride] += sum;
      }
    });
  };
  for (int64_t j = 0; j < taps && weight.grad.defined(); ++j) {
    add_up(j, weight.grad.data() + j, taps);
  }
  if (bias != nullptr && bias->grad.defined()) add_up(taps, bias->grad.data(), 1);
  return dx;
}

}  // namespace braid

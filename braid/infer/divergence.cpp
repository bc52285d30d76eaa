#include "braid/infer/divergence.h"

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/infer/generate.h"

namespace braid {
namespace {

constexpr int64_t kLogitRows = 32;  // held at once, of each model

// log of the sum of exponentials, in double.
double log_total(const float* x, int64_t n) {
  const double top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - top);
  return top + std::log(sum);
}

// A model reading the tokens chunk by chunk.
class Reader {
 public:
  Reader(const Context& ctx, Model& model)
      : ctx_(ctx), model_(model), sequence_(model.new_sequence(ctx)) {}

  void read(std::span<const int32_t> ids, int64_t begin, int64_t end) {
    Batch batch;
    batch.seq_starts = {0, end - begin};
    batch.offsets = {begin};
    SequenceState* const one[] = {&sequence_};
    begin_ = begin;
    hidden_ = model_.hidden(
        ctx_, ids.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)), batch,
        one);
  }
  // [n, vocab] of positions inside what was read last.
  Tensor logits(int64_t from, int64_t n) {
    return model_.logits(ctx_, hidden_.narrow(0, from - begin_, n));
  }

 private:
  const Context& ctx_;
  Model& model_;
  SequenceState sequence_;
  int64_t begin_ = 0;
  Tensor hidden_;
};

void check_vocabularies(const Model& model, const Model& reference) {
  const int64_t mine = model.settings().vocab, other = reference.settings().vocab;
  if (mine == other) return;
  throw Error(
      ErrorKind::kUsage,
      format("the model predicts {} tokens, the reference {}: nothing to compare", mine, other));
}

}  // namespace

void compare_rows(const float* row, const float* reference, int64_t vocab, Divergence& sum) {
  const double zq = log_total(row, vocab), zp = log_total(reference, vocab);
  double kl = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    const double p = reference[i] - zp;
    kl += std::exp(p) * (p - (row[i] - zq));
  }
  sum.kl += kl;
  sum.worst_kl = kl <= sum.worst_kl ? sum.worst_kl : kl;  // a NaN stays
  const bool agree = std::max_element(row, row + vocab) - row ==
                     std::max_element(reference, reference + vocab) - reference;
  sum.top1 += agree ? 1 : 0;
  ++sum.positions;
}

std::vector<Divergence> divergence(const Context& ctx, Model& model, Model& reference,
                                   std::span<const int32_t> ids, std::span<const int64_t> contexts,
                                   FunctionRef<void(int64_t done, int64_t all)> progress) {
  check_vocabularies(model, reference);
  std::vector<Divergence> out;
  if (contexts.empty()) return out;
  BRAID_CHECK(std::is_sorted(contexts.begin(), contexts.end()) &&
              contexts.back() <= std::ssize(ids));
  for (const int64_t c : contexts) out.push_back({c, 0, 0, 0, 0});
  Reader mine(ctx, model), other(ctx, reference);
  const int64_t vocab = model.settings().vocab;
  for (int64_t begin = 0; begin < contexts.back(); begin += kPrefillChunk) {
    const int64_t end = std::min(contexts.back(), begin + kPrefillChunk);
    mine.read(ids, begin, end);
    other.read(ids, begin, end);
    int64_t before = 0;  // positions of the context before are not counted twice
    for (Divergence& d : out) {
      const int64_t from = std::max({d.context - kComparedPositions, before, begin});
      before = d.context;
      for (int64_t at = from; at < std::min(d.context, end); at += kLogitRows) {
        const int64_t n = std::min({kLogitRows, d.context - at, end - at});
        const Tensor a = mine.logits(at, n), b = other.logits(at, n);
        for (int64_t r = 0; r < n; ++r) {
          compare_rows(a.data() + r * vocab, b.data() + r * vocab, vocab, d);
        }
      }
    }
    progress(end, contexts.back());
  }
  for (Divergence& d : out) {
    d.kl /= static_cast<double>(d.positions);
    d.top1 /= static_cast<double>(d.positions);
  }
  return out;
}

}  // namespace braid

#include "braid/testing/stack_battery.h"

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/ops/tape.h"
#include "braid/stack/model.h"
#include "braid/stack/reference.h"
#include "braid/testing/memory_file.h"
#include "braid/testing/numeric.h"

namespace braid::testing {
namespace {

constexpr int64_t kVocab = 29;

ModelSettings settings_of(const std::string& stack, const StackBattery& b) {
  ModelSettings s = b.settings;
  s.stack = parse_stack(stack, known_layers());
  s.width = b.width;
  s.heads = b.heads;
  s.head_dim = b.head_dim;
  s.vocab = kVocab;
  s.residual = parse_named(b.residual, "residual");
  s.init = parse_named("normal{std=0.3}", "init");
  return s;
}

struct Gradients {
  Tensor loss;
  std::vector<std::pair<std::string, std::vector<double>>> by_name;
};

class Battery {
 public:
  Battery(const std::string& stack, const StackBattery& b)
      : b_(b), stack_(stack), model_(ctx_, settings_of(stack, b)) {
    ctx_.threads = 1;
    for (Parameter& p : model_.parameters()) {
      const Rng rng(3, p.name);
      for (int64_t i = 0; i < p.value.count(); ++i)
        p.value.data()[i] += static_cast<float>(0.1 * rng.normal(static_cast<uint64_t>(i)));
    }
  }

  std::vector<std::string> run() {
    for (const int64_t n : b_.lengths) {
      logits_are_those_of_reference(n);
      one_call_is_token_by_token(n);
    }
    cut_anywhere();
    packed_is_alone();
    sequences_are_values();
    threads_change_nothing();
    recomputation_changes_nothing();
    gradients_are_those_of_reference();
    packed_gradients_are_sums();
    text_is_canonical();
    return std::move(failures_);
  }

 private:
  void expect(bool holds, const std::string& what) {
    if (!holds) failures_.push_back(format("{}: {}", stack_, what));
  }
  void expect_close(const Tensor& got, const Tensor& want, const std::string& what) {
    const double error = worst_error(got, want);
    expect(error <= b_.tolerance, format("{} differs by {}", what, error));
  }
  static bool same(const Tensor& a, const Tensor& b) { return values(a) == values(b); }

  static std::vector<int32_t> ids(int64_t n, const char* use = "ids") {
    const Rng rng(5, use);
    std::vector<int32_t> out;
    for (int64_t i = 0; i < n; ++i) {
      out.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(i), kVocab)));
    }
    return out;
  }
  using Ids = std::span<const int32_t>;
  static Ids part(const std::vector<int32_t>& all, int64_t begin, int64_t end) {
    return Ids(all).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
  }
  Tensor whole(Ids text) { return model_.hidden(ctx_, text, Batch::uniform(1, std::ssize(text))); }
  Tensor advance(SequenceState& sequence, Ids text) {
    Batch batch = Batch::uniform(1, std::ssize(text));
    batch.offsets[0] = std::ssize(sequence.tokens);
    SequenceState* const one[] = {&sequence};
    return model_.hidden(ctx_, text, batch, one);
  }
  static MemoryFile content(const SequenceState& sequence) {
    MemoryFile file;
    sequence.save(file);
    return file;
  }

  void logits_are_those_of_reference(int64_t n) {
    const std::vector<int32_t> text = ids(n);
    const double error =
        worst_error(model_.logits(ctx_, whole(text)),
                    reference_logits(model_, reference_params(ctx_, model_), text));
    expect(error <= b_.tolerance, format("{} tokens differ by {} from the reference", n, error));
  }

  void one_call_is_token_by_token(int64_t n) {
    const std::vector<int32_t> text = ids(n);
    const Tensor want = whole(text);
    SequenceState once = model_.new_sequence(ctx_), steps = model_.new_sequence(ctx_);
    expect_close(advance(once, text), want, format("{} tokens with a state", n));
    double worst = 0;
    for (int64_t t = 0; t < n; ++t) {
      const Tensor y = advance(steps, part(text, t, t + 1));
      worst = std::max(worst, worst_error(y, want.narrow(0, t, 1)));
    }
    // Each row against its own largest value: ten times what is asked of the whole.
    expect(worst <= 10 * b_.tolerance, format("{} tokens one by one differ by {}", n, worst));
    size_t bytes = 0;
    for (const auto& layer : once.layers) bytes += layer ? layer->bytes() : 0;
    expect(bytes == model_.state_bytes(n),
           format("states hold {} bytes after {} tokens, state_bytes says {}", bytes, n,
                  model_.state_bytes(n)));
  }

  void cut_anywhere() {
    const int64_t n = 70;
    const std::vector<int32_t> text = ids(n);
    const Tensor want = whole(text);
    for (int64_t cut = 1; cut < n; ++cut) {
      SequenceState s = model_.new_sequence(ctx_);
      const Tensor head = advance(s, part(text, 0, cut)), tail = advance(s, part(text, cut, n));
      expect_close(head, want.narrow(0, 0, cut), format("{} tokens cut at {}: head", n, cut));
      expect_close(tail, want.narrow(0, cut, n - cut), format("{} tokens cut at {}: tail", n, cut));
    }
  }

  static Batch ragged(const std::vector<int64_t>& lengths) {
    Batch batch;
    batch.seq_starts.push_back(0);
    for (const int64_t n : lengths) batch.seq_starts.push_back(batch.seq_starts.back() + n);
    batch.offsets.assign(lengths.size(), 0);
    return batch;
  }

  void packed_is_alone() {
    const Batch batch = ragged({65, 1, 130, 2, 64, 63});
    const int64_t count = batch.sequences();
    const std::vector<int32_t> text = ids(batch.tokens()), next = ids(count, "next");
    std::vector<SequenceState> together;
    std::vector<SequenceState*> pointers;
    for (int64_t s = 0; s < count; ++s) together.push_back(model_.new_sequence(ctx_));
    for (SequenceState& s : together) pointers.push_back(&s);
    const Tensor stateless = model_.hidden(ctx_, text, batch);
    const Tensor y = model_.hidden(ctx_, text, batch, pointers);
    Batch step = Batch::uniform(count, 1);
    for (int64_t s = 0; s < count; ++s) step.offsets[s] = batch.length(s);
    const Tensor y_next = model_.hidden(ctx_, next, step, pointers);
    for (int64_t s = 0; s < count; ++s) {
      const int64_t begin = batch.seq_starts[s], end = batch.seq_starts[s + 1];
      SequenceState alone = model_.new_sequence(ctx_);
      const Tensor want = advance(alone, part(text, begin, end));
      const Tensor want_next = advance(alone, part(next, s, s + 1));
      const std::string what = format("sequence {} of a packed batch", s);
      expect_close(stateless.narrow(0, begin, end - begin), want, what + " without states");
      expect_close(y.narrow(0, begin, end - begin), want, what);
      expect_close(y_next.narrow(0, s, 1), want_next, what + ", decoded");
    }
  }

  void sequences_are_values() {
    const std::vector<int32_t> text = ids(70), next = ids(40, "next"), other = ids(40, "other");
    SequenceState live = model_.new_sequence(ctx_);
    advance(live, text);
    const MemoryFile at_mark = content(live);
    const SequenceState snapshot = live.snapshot();
    SequenceState fork = live.snapshot();
    advance(fork, other);
    expect(content(live) == at_mark, "writing to a fork shows in the original");
    const Tensor want = advance(live, next);
    const MemoryFile at_end = content(live);
    expect(content(snapshot) == at_mark, "writing to the original shows in a snapshot");
    live.restore(snapshot);
    expect(same(advance(live, next), want) && content(live) == at_end,
           "a restored sequence is not the uninterrupted one bit for bit");
    SequenceState loaded = model_.new_sequence(ctx_);
    MemoryFile file = at_mark;
    loaded.load(file);
    expect(same(advance(loaded, next), want) && content(loaded) == at_end,
           "a loaded sequence does not go on bit for bit");
  }

  Gradients gradients(const Context& ctx, Ids text, Ids targets, const Batch& batch) {
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    model_.parameters().allocate_grads(ctx);
    model_.parameters().zero_grads(ctx);
    Gradients g;
    g.loss = model_.loss(train, text, targets, batch).loss;
    tape.backward(ctx, g.loss);
    for (const Parameter& p : model_.parameters()) {
      if (p.role != ParamRole::kBuffer) g.by_name.emplace_back(p.name, values(p.grad));
    }
    return g;
  }

  void threads_change_nothing() {
    const Batch batch = ragged({130, 1, 100});
    const std::vector<int32_t> text = ids(batch.tokens()), targets = ids(batch.tokens(), "targets");
    Context two = ctx_;
    two.threads = 2;
    const Gradients a = gradients(ctx_, text, targets, batch);
    const Gradients b = gradients(two, text, targets, batch);
    expect(same(a.loss, b.loss), "losses of 1 and 2 threads are not bitwise equal");
    expect(a.by_name == b.by_name, "gradients with 1 and 2 threads are not bitwise equal");
  }

  void recomputation_changes_nothing() {
    const Batch batch = ragged({65, 30});
    const std::vector<int32_t> text = ids(batch.tokens()), targets = ids(batch.tokens(), "targets");
    const Gradients kept = gradients(ctx_, text, targets, batch);
    model_.set_recompute(true);
    const Gradients again = gradients(ctx_, text, targets, batch);
    model_.set_recompute(false);
    expect(same(kept.loss, again.loss), "recomputation changes the loss");
    for (size_t i = 0; i < kept.by_name.size(); ++i) {
      const double error = worst_error(again.by_name[i].second, kept.by_name[i].second);
      expect(error <= b_.tolerance, format("recomputation changes the gradient of {} by {}",
                                           kept.by_name[i].first, error));
    }
  }

  void gradients_are_those_of_reference() {
    constexpr double kStep = 1e-5;
    const int64_t n = 40;
    const std::vector<int32_t> text = ids(n + 1);
    const Gradients g =
        gradients(ctx_, part(text, 0, n), part(text, 1, n + 1), Batch::uniform(1, n));
    for (const auto& [name, got] : g.by_name) {
      double norm = 0, along = 0, slope[2];
      for (const double v : got) norm += v * v;
      norm = std::sqrt(norm);
      const Rng rng(1, name);
      for (int side = 0; side < 2; ++side) {
        ReferenceParams params = reference_params(ctx_, model_);
        std::vector<double>& moved = params.values[name];
        along = 0;
        for (size_t i = 0; i < moved.size(); ++i) {
          const double sign = rng.uniform(i) < 0.5 ? -1 : 1;
          moved[i] += (side == 0 ? 1 : -1) * kStep * sign;
          along += sign * got[i];
        }
        slope[side] = reference_loss(model_, params, text);
      }
      const double want = (slope[0] - slope[1]) / (2 * kStep);
      const double error = std::abs(along - want) / std::max({norm, std::abs(want), 1e-9});
      expect(error <= b_.gradient_tolerance,
             format("the gradient of {} gives {} along a direction, the reference {}", name, along,
                    want));
    }
  }

  void packed_gradients_are_sums() {
    const Batch batch = ragged({65, 1, 30});
    const std::vector<int32_t> text = ids(batch.tokens()), targets = ids(batch.tokens(), "targets");
    const Gradients packed = gradients(ctx_, text, targets, batch);
    std::vector<std::vector<double>> sums(packed.by_name.size());
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t begin = batch.seq_starts[s], end = batch.seq_starts[s + 1];
      const double share = static_cast<double>(end - begin) / static_cast<double>(batch.tokens());
      const Gradients own = gradients(ctx_, part(text, begin, end), part(targets, begin, end),
                                      Batch::uniform(1, end - begin));
      for (size_t i = 0; i < sums.size(); ++i) {
        const std::vector<double>& more = own.by_name[i].second;
        sums[i].resize(more.size());
        for (size_t j = 0; j < more.size(); ++j) sums[i][j] += share * more[j];
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      const double error = worst_error(packed.by_name[i].second, sums[i]);
      expect(error <= 5 * b_.tolerance, format("the gradient of {} in a packed batch differs by {}",
                                               packed.by_name[i].first, error));
    }
  }

  void text_is_canonical() {
    ModelSettings again = model_.settings();
    const std::string text = model_.canonical_stack();
    again.stack = parse_stack(text, known_layers());
    expect(Model(ctx_, again).canonical_stack() == text,
           "it does not print as it was read: " + text);
  }

  Context ctx_;
  const StackBattery b_;
  std::string stack_;
  Model model_;
  std::vector<std::string> failures_;
};

}  // namespace

std::vector<std::string> check_stack(const std::string& stack, const StackBattery& battery) {
  return Battery(stack, battery).run();
}

}  // namespace braid::testing

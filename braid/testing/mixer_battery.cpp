#include "braid/testing/mixer_battery.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"
#include "braid/ops/tape.h"
#include "braid/testing/memory_file.h"
#include "braid/testing/numeric.h"

namespace braid::testing {
namespace {

using Sequences = std::vector<std::unique_ptr<LayerState>>;

Options parse(const std::string& text) {
  Options options;
  if (text.empty()) return options;
  for (const std::string_view option : split(text, ',')) {
    const size_t is = option.find('=');
    BRAID_CHECK(is != std::string_view::npos);
    options.set(std::string(option.substr(0, is)), std::string(option.substr(is + 1)));
  }
  return options;
}

// A layer whose parameters are far from any special value such as 0 or 1.
struct Subject {
  ParameterSet params;
  std::unique_ptr<Layer> layer;

  Subject(const Context& ctx, const std::string& mixer, const MixerBattery& b) {
    const LayerType* type = find_mixer(mixer);
    if (type == nullptr) type = find_channel(mixer);  // those with a state
    if (type == nullptr) throw Error(ErrorKind::kUsage, format("no mixer {}", mixer));
    LayerEnv env;
    env.width = b.width;
    env.heads = b.heads;
    env.head_dim = b.head_dim;
    env.depth = 8;
    env.meta_tokens = b.meta_tokens;
    env.layer_index = 2;
    env.init_std = env.out_init_std = 0.3;
    ParamBuilder builder(ctx, params, 7);
    layer = type->make(parse(b.options), env, builder);
    if (ctx.dry()) return;
    for (Parameter& p : params) {
      const Rng rng(3, p.name);
      for (int64_t i = 0; i < p.value.count(); ++i)
        p.value.data()[i] += static_cast<float>(0.1 * rng.normal(static_cast<uint64_t>(i)));
    }
  }
};

struct Gradients {
  Tensor out;
  std::vector<std::pair<std::string, std::vector<double>>> by_name;  // "x" and the parameters
};

class Battery {
 public:
  Battery(const std::string& mixer, const MixerBattery& settings)
      : b_(settings), mixer_(mixer), subject_(ctx_, mixer, settings) {
    ctx_.threads = 1;  // thousands of tiny calls: a second thread would only wait
  }

  std::vector<std::string> run() {
    for (const int64_t n : b_.lengths) {
      forward_is_reference(n);
      one_call_is_token_by_token(n);
    }
    cut_anywhere();
    packed_is_alone();
    states_are_values();
    threads_change_nothing();
    gradients_are_those_of_reference();
    packed_gradients_are_sums();
    dry_runs_count_the_same();
    dry_states_count_the_same();
    options_are_canonical();
    gates_stay_f32();
    return std::move(failures_);
  }

 private:
  void expect(bool holds, const std::string& what) {
    if (!holds) failures_.push_back(format("{}{{{}}}: {}", mixer_, b_.options, what));
  }
  void expect_close(const Tensor& got, const Tensor& want, const std::string& what) {
    const double error = worst_error(got, want);
    expect(error <= b_.tolerance, format("{} differs by {}", what, error));
  }

  Tensor input(int64_t tokens, const char* use = "x") const {
    return random_tensor(ctx_, {tokens, b_.width}, use);
  }
  static Tensor rows(const Tensor& x, int64_t begin, int64_t end) {
    return x.narrow(0, begin, end - begin);
  }
  Sequences fresh(int64_t count) const {
    Sequences s;
    for (int64_t i = 0; i < count; ++i) s.push_back(subject_.layer->make_state(ctx_, b_.state));
    return s;
  }
  // Runs the next tokens of one sequence.
  Tensor advance(LayerState& state, const Tensor& x) {
    Batch batch = Batch::uniform(1, x.size(0));
    batch.offsets[0] = state.length();
    LayerState* states[] = {&state};
    return subject_.layer->forward(ctx_, x, batch, states);
  }
  Tensor whole(const Tensor& x) {
    return subject_.layer->forward(ctx_, x, Batch::uniform(1, x.size(0)), {});
  }
  static MemoryFile content(const LayerState& state) {
    MemoryFile file;
    state.save(file, "");
    return file;
  }
  void expect_states_close(const LayerState& got, const LayerState& want, const std::string& what) {
    const MemoryFile a = content(got), b = content(want);
    expect(a.integers == b.integers, what + ": states count differently");
    for (const auto& [name, values] : b.tensors) {
      const auto& mine = a.tensors.at(name);
      const std::vector<double> x(mine.begin(), mine.end()), y(values.begin(), values.end());
      const double error = x.size() == y.size() ? worst_error(x, y) : HUGE_VAL;
      expect(error <= b_.tolerance, format("{}: state {} differs by {}", what, name, error));
    }
  }

  ReferenceParams reference_params() const {
    ReferenceParams params;
    for (const Parameter& p : subject_.params) params.values[p.name] = values(p.value);
    return params;
  }

  void forward_is_reference(int64_t n) {
    const Tensor x = input(n);
    const std::vector<double> want = subject_.layer->reference(reference_params(), values(x), n);
    const double error = worst_error(whole(x), want);
    expect(error <= b_.tolerance, format("{} tokens differ by {} from the reference", n, error));
  }

  void one_call_is_token_by_token(int64_t n) {
    const Tensor x = input(n), want = whole(x);
    const Sequences s = fresh(2);
    const Tensor with_state = advance(*s[0], x);
    expect_close(with_state, want, format("{} tokens with a state", n));
    const Tensor steps = Tensor::empty(ctx_, x.shape());
    for (int64_t t = 0; t < n; ++t) {
      const Tensor y = advance(*s[1], rows(x, t, t + 1));
      std::copy_n(y.data(), b_.width, rows(steps, t, t + 1).data());
    }
    expect_close(steps, want, format("{} tokens one by one", n));
    expect_states_close(*s[1], *s[0], format("{} tokens one by one", n));
    expect(s[0]->length() == n, format("the state has length {} after {}", s[0]->length(), n));
    expect(s[0]->bytes() == subject_.layer->state_bytes(n, b_.state),
           format("the state holds {} bytes after {} tokens, state_bytes says {}", s[0]->bytes(), n,
                  subject_.layer->state_bytes(n, b_.state)));
    expect(subject_.layer->state_read_bytes(n, b_.state) <= s[0]->bytes(),
           format("a token after {} reads {} bytes of {}", n,
                  subject_.layer->state_read_bytes(n, b_.state), s[0]->bytes()));
    if (!b_.constant_state) return;
    const size_t at_start = subject_.layer->make_state(ctx_, b_.state)->bytes();
    expect(s[0]->bytes() == at_start,
           format("the state grew from {} to {} bytes in {} tokens", at_start, s[0]->bytes(), n));
  }

  void cut_anywhere() {
    const int64_t n = 130;
    const Tensor x = input(n), want = whole(x);
    const Sequences end = fresh(1);
    advance(*end[0], x);
    for (int64_t cut = 1; cut < n; ++cut) {
      const Sequences s = fresh(1);
      const Tensor head = advance(*s[0], rows(x, 0, cut));
      const Tensor tail = advance(*s[0], rows(x, cut, n));
      expect_close(head, rows(want, 0, cut), format("{} tokens cut at {}: head", n, cut));
      expect_close(tail, rows(want, cut, n), format("{} tokens cut at {}: tail", n, cut));
      expect_states_close(*s[0], *end[0], format("{} tokens cut at {}", n, cut));
    }
  }

  // Sequences of these lengths laid end to end.
  static Batch ragged(const std::vector<int64_t>& lengths) {
    Batch batch;
    batch.seq_starts.push_back(0);
    for (const int64_t n : lengths) batch.seq_starts.push_back(batch.seq_starts.back() + n);
    batch.offsets.assign(lengths.size(), 0);
    return batch;
  }

  // Prefill of many sequences at once, then decode steps of all: as each alone.
  void packed_is_alone() {
    Batch batch = ragged({65, 1, 130, 2, 64, 63});
    const int64_t count = batch.sequences();
    const Tensor x = input(batch.tokens()), next = input(count, "next");
    const Sequences together = fresh(count), alone = fresh(count);
    std::vector<LayerState*> states;
    for (const auto& s : together) states.push_back(s.get());
    const Tensor stateless = subject_.layer->forward(ctx_, x, batch, {});
    const Tensor y = subject_.layer->forward(ctx_, x, batch, states);
    Batch step = Batch::uniform(count, 1);
    for (int64_t s = 0; s < count; ++s) step.offsets[s] = batch.length(s);
    const Tensor y_next = subject_.layer->forward(ctx_, next, step, states);
    for (int64_t s = 0; s < count; ++s) {
      const int64_t begin = batch.seq_starts[s], end = batch.seq_starts[s + 1];
      const Tensor want = advance(*alone[s], rows(x, begin, end));
      const Tensor want_next = advance(*alone[s], rows(next, s, s + 1));
      const std::string what = format("sequence {} of a packed batch", s);
      expect_close(rows(stateless, begin, end), want, what + " without states");
      expect_close(rows(y, begin, end), want, what);
      expect_close(rows(y_next, s, s + 1), want_next, what + ", decoded");
      expect_states_close(*together[s], *alone[s], what);
    }
  }

  static bool same(const Tensor& a, const Tensor& b) { return values(a) == values(b); }

  void states_are_values() {
    const int64_t n = 70, more = 40;
    const Tensor x = input(n), next = input(more, "next"), other = input(more, "other");
    const Sequences s = fresh(3);
    LayerState& live = *s[0];
    advance(live, x);
    const MemoryFile at_mark = content(live);
    const auto snapshot = live.snapshot(), fork = live.snapshot();
    expect(snapshot->kind() == live.kind() && snapshot->length() == n, "a snapshot is of its kind");
    advance(*fork, other);
    expect(content(live) == at_mark, "writing to a fork shows in the original");
    const Tensor want = advance(live, next);
    const MemoryFile at_end = content(live);
    expect(content(*snapshot) == at_mark, "writing to the original shows in a snapshot");

    live.restore(*snapshot);
    expect(content(live) == at_mark, "restore is not the snapshot");
    expect(same(advance(live, next), want) && content(live) == at_end,
           "a restored run is not the uninterrupted one bit for bit");
    advance(*s[1], other);
    s[1]->restore(*snapshot);
    expect(same(advance(*s[1], next), want) && content(*s[1]) == at_end,
           "another state, restored, does not go on bit for bit");
    MemoryFile file = at_mark;
    s[2]->load(file, "");
    expect(same(advance(*s[2], next), want) && content(*s[2]) == at_end,
           "a loaded state does not go on bit for bit");
    s[2]->reset();
    expect(content(*s[2]) == content(*subject_.layer->make_state(ctx_, b_.state)),
           "reset is not fresh");
  }

  Gradients gradients(const Context& ctx, Subject& subject, Tensor x, const Tensor& d_out,
                      const Batch& batch) const {
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    subject.params.allocate_grads(ctx);
    subject.params.zero_grads(ctx);
    tape.watch(x);
    Gradients g;
    g.out = subject.layer->forward(train, x, batch, {});
    tape.backward(ctx, g.out, d_out);
    if (ctx.dry()) return g;
    g.by_name.emplace_back("x", values(tape.grad(x)));
    for (const Parameter& p : subject.params) {
      if (p.role != ParamRole::kBuffer) g.by_name.emplace_back(p.name, values(p.grad));
    }
    return g;
  }

  void threads_change_nothing() {
    const Batch batch = ragged({130, 1, 200});
    const Tensor x = input(batch.tokens()), d = input(batch.tokens(), "d");
    Context two = ctx_;
    two.threads = 2;
    const Gradients a = gradients(ctx_, subject_, x, d, batch);
    const Gradients b = gradients(two, subject_, x, d, batch);
    expect(same(a.out, b.out), "outputs of 1 and 2 threads are not bitwise equal");
    for (size_t i = 0; i < a.by_name.size(); ++i) {
      expect(
          a.by_name[i] == b.by_name[i],
          format("gradients of {} with 1 and 2 threads are not bitwise equal", a.by_name[i].first));
    }
  }

  double reference_loss(const ReferenceParams& params, const std::vector<double>& x,
                        const std::vector<double>& d) const {
    const std::vector<double> y =
        subject_.layer->reference(params, x, static_cast<int64_t>(x.size()) / b_.width);
    return std::inner_product(y.begin(), y.end(), d.begin(), 0.0);
  }

  // Derivatives along random signs, against central differences of the double-precision loss.
  void gradients_are_those_of_reference() {
    constexpr double kStep = 1e-5;
    const int64_t n = 67;
    const Tensor x = input(n), d = input(n, "d");
    const Gradients g = gradients(ctx_, subject_, x, d, Batch::uniform(1, n));
    const std::vector<double> weights = values(d);
    for (const auto& [name, got] : g.by_name) {
      double norm = 0;
      for (const double v : got) norm += v * v;
      norm = std::sqrt(norm);
      for (uint64_t direction = 0; direction < 3; ++direction) {
        const Rng rng(direction, name);
        double slope[2], along = 0;
        for (int side = 0; side < 2; ++side) {
          ReferenceParams params = reference_params();
          std::vector<double> at = values(x);
          std::vector<double>& moved = name == "x" ? at : params.values[name];
          along = 0;
          for (size_t i = 0; i < moved.size(); ++i) {
            const double sign = rng.uniform(i) < 0.5 ? -1 : 1;
            moved[i] += (side == 0 ? 1 : -1) * kStep * sign;
            along += sign * got[i];
          }
          slope[side] = reference_loss(params, at, weights);
        }
        const double want = (slope[0] - slope[1]) / (2 * kStep);
        const double error = std::abs(along - want) / std::max({norm, std::abs(want), 1e-30});
        expect(error <= b_.gradient_tolerance,
               format("the gradient of {} gives {} along a direction, the reference {}", name,
                      along, want));
      }
    }
  }

  void packed_gradients_are_sums() {
    const Batch batch = ragged({65, 1, 30});
    const Tensor x = input(batch.tokens()), d = input(batch.tokens(), "d");
    const Gradients packed = gradients(ctx_, subject_, x, d, batch);
    std::vector<std::vector<double>> sums(packed.by_name.size());
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t begin = batch.seq_starts[s], end = batch.seq_starts[s + 1];
      const Gradients part = gradients(ctx_, subject_, rows(x, begin, end), rows(d, begin, end),
                                       Batch::uniform(1, end - begin));
      for (size_t i = 0; i < sums.size(); ++i) {
        const std::vector<double>& more = part.by_name[i].second;
        if (i == 0) sums[i].insert(sums[i].end(), more.begin(), more.end());  // x
        if (i > 0) sums[i].resize(more.size());
        for (size_t j = 0; i > 0 && j < more.size(); ++j) sums[i][j] += more[j];
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      const double error = worst_error(packed.by_name[i].second, sums[i]);
      expect(error <= b_.packed_gradient_tolerance,
             format("the gradient of {} in a packed batch differs by {}", packed.by_name[i].first,
                    error));
    }
  }

  // `plan` runs models dry: bytes and FLOPs must be those of a real run.
  void dry_runs_count_the_same() {
    const Batch batch = ragged({100, 30});
    size_t peak[2];
    double flops[2];
    for (int dry = 0; dry < 2; ++dry) {
      Counters counters;
      Context ctx;
      ctx.arena = Arena::create(dry ? Arena::Mode::kDry : Arena::Mode::kReal);
      ctx.counters = &counters;
      Subject subject(ctx, mixer_, b_);
      const Tensor x = Tensor::zeros(ctx, {batch.tokens(), b_.width});
      gradients(ctx, subject, x, Tensor::zeros(ctx, x.shape()), batch);
      peak[dry] = ctx.arena->stats().peak;
      flops[dry] = counters.product_flops;
    }
    expect(peak[0] == peak[1], format("a step takes {} bytes, {} dry", peak[0], peak[1]));
    expect(flops[0] == flops[1], format("a step counts {} FLOPs, {} dry", flops[0], flops[1]));
  }

  // As `plan` does it for inference: a prompt, then a token.
  void dry_states_count_the_same() {
    size_t peak[2];
    double flops[2];
    for (int dry = 0; dry < 2; ++dry) {
      Counters counters;
      Context ctx;
      ctx.arena = Arena::create(dry ? Arena::Mode::kDry : Arena::Mode::kReal);
      ctx.counters = &counters;
      Subject subject(ctx, mixer_, b_);
      const std::unique_ptr<LayerState> state = subject.layer->make_state(ctx, b_.state);
      LayerState* const states[] = {state.get()};
      for (const int64_t tokens : {100, 1}) {
        Batch batch = ragged({tokens});
        batch.offsets = {tokens == 1 ? 100 : 0};
        const Tensor x = Tensor::zeros(ctx, {tokens, b_.width});
        subject.layer->forward(ctx, x, batch, states);
      }
      peak[dry] = ctx.arena->stats().peak;
      flops[dry] = counters.product_flops;
    }
    expect(peak[0] == peak[1], format("inference takes {} bytes, {} dry", peak[0], peak[1]));
    expect(flops[0] == flops[1], format("inference counts {} FLOPs, {} dry", flops[0], flops[1]));
  }

  void gates_stay_f32() {
    std::string names;
    for (const Parameter& p : subject_.params) {
      if (p.role == ParamRole::kMatrix && p.keep_f32) names += p.name + " ";
      if (p.role == ParamRole::kVector) expect(p.keep_f32, p.name + " is not kept in f32");
    }
    expect(names == b_.f32_matrices,
           format("matrices kept in f32 are '{}', not '{}'", names, b_.f32_matrices));
  }

  void options_are_canonical() {
    const std::string text = subject_.layer->options().str();
    MixerBattery again = b_;
    again.options = text;
    const Subject copy(ctx_, mixer_, again);
    expect(copy.layer->options().str() == text, "options do not print as they were read: " + text);
    bool equal = copy.params.size() == subject_.params.size();
    auto mine = subject_.params.begin();
    for (const Parameter& p : copy.params) {
      equal = equal && p.name == mine->name && p.value.shape() == mine->value.shape();
      ++mine;
    }
    expect(equal, "other parameters from its own options " + text);
  }

  Context ctx_;
  const MixerBattery b_;
  std::string mixer_;
  Subject subject_;
  std::vector<std::string> failures_;
};

}  // namespace

std::vector<std::string> check_mixer(const std::string& mixer, const MixerBattery& battery) {
  return Battery(mixer, battery).run();
}

}  // namespace braid::testing

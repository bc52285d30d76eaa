#include "braid/bench/verify.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/layers/chooser.h"
#include "braid/ops/tape.h"
#include "braid/stack/model.h"
#include "braid/stack/reference.h"

namespace braid {
namespace {

constexpr double kForwardBound = 2e-5;   // f32 sums over a width, a head and a chunk
constexpr double kGradientBound = 2e-4;  // the same twice, with the cancellation of gate gradients
constexpr double kWiringBound = 2e-4;    // all of a stack's layers, one after the other
constexpr int64_t kWiringTokens = 24;
constexpr double kSameBound = 2e-5;  // two f32 orders of the same sums

Tensor random(const Context& ctx, Shape shape, const Rng& rng, double size = 1.0) {
  Tensor t = Tensor::empty(ctx, shape);
  for (int64_t i = 0; i < t.count(); ++i)
    t.data()[i] = static_cast<float>(size * rng.normal(static_cast<uint64_t>(i)));
  return t;
}

std::vector<double> to_double(const Tensor& t) { return {t.data(), t.data() + t.count()}; }

// Largest difference over the largest wanted value; infinite where anything is not a number.
double relative_error(std::span<const double> want, const float* got) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(want[i] - got[i]);
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, d);
    largest = std::max(largest, std::abs(want[i]));
  }
  return worst / std::max(largest, 1e-30);
}

double relative_error(const Tensor& want, const Tensor& got) {
  return relative_error(to_double(want), got.data());
}

// The slope of f at 0 by central differences. Where f jumps or bends inside the step (a choice that
// changes), its slopes to either side differ, and a smaller step is taken.
struct Slope {
  double value = std::numeric_limits<double>::quiet_NaN();
  bool smooth = false;  // at some step; else `value` is that of the step with the least difference
};

template <typename F>
Slope slope(double f0, double step, double tolerance, F f) {
  constexpr int kSteps = 5;
  constexpr double kSmaller = 8;
  Slope best;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kSteps && !best.smooth; ++i, step /= kSmaller) {
    const double after = (f(step) - f0) / step, before = (f0 - f(-step)) / step;
    const double difference = std::abs(after - before);
    if (!(difference < least)) continue;
    least = difference;
    best = {(after + before) / 2, difference <= tolerance};
  }
  return best;
}

struct GradientError {
  double error = std::numeric_limits<double>::infinity();
  bool smooth = true;
};

// The gradient along a random direction, against the slope of the reference's loss(), which is
// `loss0` at `at`; relative to the size that the gradient could give along any direction of that
// length.
template <typename Loss>
GradientError directional_error(const Rng& rng, std::vector<double>& at, const Tensor& grad,
                                double loss0, Loss loss) {
  if (!grad.defined()) return {};
  std::vector<double> v(at.size());
  double size = 0, got = 0, grad_norm = 0, v_norm = 0;
  for (size_t i = 0; i < at.size(); ++i) {
    v[i] = rng.normal(0x100000000ULL + i);
    size += at[i] * at[i];
    got += v[i] * grad.data()[i];
    grad_norm += static_cast<double>(grad.data()[i]) * grad.data()[i];
    v_norm += v[i] * v[i];
  }
  const std::vector<double> kept = at;
  const auto shifted = [&](double by) {
    for (size_t i = 0; i < at.size(); ++i) at[i] += by * v[i];
    const double value = loss();
    at = kept;
    return value;
  };
  // A jump moves the central difference by half of what it adds to the slopes' difference.
  const double scale = std::max(std::sqrt(grad_norm), 1e-12);
  const Slope want = slope(loss0, 1e-5 * std::max(1.0, std::sqrt(size / v_norm)),
                           kGradientBound / 4 * scale, shifted);
  const double error = std::abs(want.value - got) / std::max(std::abs(want.value), scale);
  if (!std::isfinite(error)) return {};
  return {error, want.smooth};
}

std::string gradient_check(const std::string& of, const GradientError& e) {
  return format("d {} = reference{}", of, e.smooth ? "" : ", which jumps here");
}

// A saved state without a disk.
class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    tensors_[std::string(name)] = value;
  }
  void integer(std::string_view name, int64_t value) override {
    integers_[std::string(name)] = value;
  }
  Tensor tensor(std::string_view name, Shape, DType) override {
    return tensors_.at(std::string(name));
  }
  int64_t integer(std::string_view name) override { return integers_.at(std::string(name)); }

 private:
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, int64_t> integers_;
};

class LayerVerifier {
 public:
  // `layer` is called `label` and has the parameters of `sub`.
  LayerVerifier(const Context& ctx, Model& model, const Model::SubLayer& sub, Layer& layer,
                std::string label, const VerifyOptions& options, std::vector<VerifyCheck>& out)
      : ctx_(ctx),
        sub_(sub),
        layer_(layer),
        label_(std::move(label)),
        tokens_(options.tokens),
        rng_(options.seed, "verify/" + sub.scope),
        out_(out) {
    for (Parameter& p : model.parameters()) {
      if (p.name.starts_with(sub.scope)) own_.push_back(&p);
    }
    x_ = random(ctx, {tokens_, model.settings().width}, rng_);
  }

  void run() {
    whole_ = layer_.forward(ctx_, x_, Batch::uniform(1, tokens_), {});
    reference_checks();
    packed_check();
    if (layer_.make_state(ctx_) != nullptr) state_checks();
  }

 private:
  void report(std::string what, double error, double bound) {
    out_.push_back({label_, std::move(what), error, bound});
  }

  ReferenceParams params() const {
    ReferenceParams r;
    for (const Parameter* p : own_)
      r.values.emplace(p->name.substr(sub_.scope.size()), to_double(p->value));
    return r;
  }

  void reference_checks() {
    ReferenceParams ref = params();
    std::vector<double> x = to_double(x_);
    report("forward = reference", relative_error(layer_.reference(ref, x, tokens_), whole_.data()),
           kForwardBound);

    Tape tape;
    Context train = ctx_;
    train.tape = &tape;
    Tensor leaf = x_;
    tape.watch(leaf);
    for (Parameter* p : own_) {
      if (p->role != ParamRole::kBuffer) p->grad = Tensor::zeros(ctx_, p->value.shape());
    }
    Tensor y = layer_.forward(train, leaf, Batch::uniform(1, tokens_), {});
    const Tensor up = random(ctx_, y.shape(), Rng(1, "verify/up"));
    tape.backward(ctx_, y, up);
    const auto loss = [&] {
      const std::vector<double> out = layer_.reference(ref, x, tokens_);
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * up.data()[i];
      return sum;
    };
    const double here = loss();
    const auto gradient = [&](const std::string& of, std::vector<double>& at, const Tensor& grad) {
      const GradientError e = directional_error(rng_, at, grad, here, loss);
      report(gradient_check(of, e), e.error, kGradientBound);
    };
    gradient("input", x, tape.grad(leaf));
    for (Parameter* p : own_) {
      if (p->role == ParamRole::kBuffer) continue;
      const std::string name = p->name.substr(sub_.scope.size());
      gradient(name, ref.values.find(name)->second, p->grad);
      p->grad = Tensor();
    }
  }

  struct Pass {
    Tensor y, dx;
  };

  Pass forward_backward(const Tensor& x, const Batch& batch, const Tensor& up) {
    Tape tape;
    Context train = ctx_;
    train.tape = &tape;
    Tensor leaf = x;
    tape.watch(leaf);
    Tensor y = layer_.forward(train, leaf, batch, {});
    tape.backward(ctx_, y, up);
    return {y, tape.grad(leaf)};
  }

  // Two sequences end to end give what each gives alone, forward and backward.
  void packed_check() {
    const int64_t first = tokens_ / 3, second = tokens_ - first;
    Batch packed;
    packed.seq_starts = {0, first, tokens_};
    packed.offsets = {0, 0};
    const Tensor up = random(ctx_, x_.shape(), Rng(2, "verify/up"));
    const Pass both = forward_backward(x_, packed, up);
    double forward = 0, backward = 0;
    for (const auto& [begin, count] : {std::pair(int64_t{0}, first), std::pair(first, second)}) {
      const Pass alone = forward_backward(x_.narrow(0, begin, count), Batch::uniform(1, count),
                                          up.narrow(0, begin, count));
      forward = std::max(forward, relative_error(alone.y, both.y.narrow(0, begin, count)));
      backward = std::max(backward, relative_error(alone.dx, both.dx.narrow(0, begin, count)));
    }
    report("packed = alone", forward, kSameBound);
    report("packed = alone, gradients", backward, kGradientBound);
  }

  Tensor feed(LayerState& state, int64_t begin, int64_t count) {
    Batch b;
    b.seq_starts = {0, count};
    b.offsets = {begin};
    LayerState* const one[] = {&state};
    return layer_.forward(ctx_, x_.narrow(0, begin, count), b, one);
  }

  void state_checks() {
    const int64_t cut = tokens_ / 2 + 1;
    auto state = layer_.make_state(ctx_);
    double error = relative_error(whole_.narrow(0, 0, cut), feed(*state, 0, cut));
    auto kept = state->snapshot();
    Tensor steps = Tensor::empty(ctx_, {tokens_ - cut, x_.size(1)});
    for (int64_t t = cut; t < tokens_; ++t) {
      const Tensor y = feed(*state, t, 1);
      std::copy_n(y.data(), y.count(), steps.data() + (t - cut) * x_.size(1));
    }
    error = std::max(error, relative_error(whole_.narrow(0, cut, tokens_ - cut), steps));
    report("chunked = step", error, kSameBound);

    double restored = 0;  // bit for bit
    auto again = layer_.make_state(ctx_);
    again->restore(*kept);
    for (int64_t t = cut; t < tokens_; ++t) {
      const Tensor y = feed(*again, t, 1);
      if (!std::equal(y.data(), y.data() + y.count(), steps.data() + (t - cut) * x_.size(1)))
        restored = 1;
    }
    report("restored = never stopped, bitwise", restored, 0);
    MemoryFile file;
    kept->save(file, "");
    auto loaded = layer_.make_state(ctx_);
    loaded->load(file, "");
    const Tensor y = feed(*loaded, cut, 1);
    const bool same = std::equal(y.data(), y.data() + y.count(), steps.data());
    report("saved and loaded = never stopped, bitwise", same ? 0 : 1, 0);
  }

  const Context& ctx_;
  Model::SubLayer sub_;
  Layer& layer_;
  std::string label_;
  int64_t tokens_;
  Rng rng_;
  std::vector<VerifyCheck>& out_;
  std::vector<Parameter*> own_;
  Tensor x_, whole_;
};

std::vector<int32_t> random_ids(const Model& model, const VerifyOptions& options, int64_t count) {
  const Rng rng(options.seed, "verify/ids");
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < count; ++t) {
    ids.push_back(static_cast<int32_t>(
        rng.below(static_cast<uint64_t>(t), static_cast<uint64_t>(model.settings().vocab))));
  }
  return ids;
}

// What is not verified alone - embedding, positions, norms, residual scheme, head, layers that read
// others - against the definitions of all parts put together, on a few tokens.
void verify_wiring(const Context& ctx, Model& model, const VerifyOptions& options,
                   std::vector<VerifyCheck>& out) {
  const Rng rng(options.seed, "verify/wiring");
  const int64_t tokens = std::min(options.tokens, kWiringTokens);
  const std::vector<int32_t> ids = random_ids(model, options, tokens + 1);
  const std::span<const int32_t> inputs = std::span(ids).first(static_cast<size_t>(tokens));
  const Batch batch = Batch::uniform(1, tokens);
  ReferenceParams params = reference_params(ctx, model);
  const Tensor logits = model.logits(ctx, model.hidden(ctx, inputs, batch));
  out.push_back({"stack", "logits = reference",
                 relative_error(reference_logits(model, params, inputs), logits.data()),
                 kWiringBound});
  model.parameters().allocate_grads(ctx);
  model.parameters().zero_grads(ctx);
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  const LossResult loss = model.loss(train, inputs, std::span(ids).subspan(1), batch);
  tape.backward(ctx, loss.loss);
  std::vector<std::string> inside;  // what is verified alone
  for (const Model::SubLayer& sub : model.sublayers()) {
    if (!sub.reads) inside.push_back(sub.scope);
  }
  // The last norm of each kind, the last read of the residual scheme.
  std::map<std::string, Parameter*> checked;
  for (Parameter& p : model.parameters()) {
    const bool layers_own = std::any_of(
        inside.begin(), inside.end(), [&](const std::string& s) { return p.name.starts_with(s); });
    std::string kind = p.name;
    std::erase_if(kind, [](char c) { return c >= '0' && c <= '9'; });
    if (!layers_own && p.grad.defined()) checked[kind] = &p;
  }
  const auto reference = [&] { return reference_loss(model, params, ids); };
  const double here = reference();
  for (const auto& [kind, p] : checked) {
    const GradientError e =
        directional_error(rng, params.values.find(p->name)->second, p->grad, here, reference);
    out.push_back({"stack", gradient_check(p->name + " of the loss", e), e.error, kWiringBound});
  }
  for (Parameter& p : model.parameters()) p.grad = Tensor();
}

void verify_model(const Context& ctx, Model& model, const VerifyOptions& options,
                  std::vector<VerifyCheck>& out) {
  const std::vector<int32_t> ids = random_ids(model, options, options.tokens);
  const Tensor whole = model.hidden(ctx, ids, Batch::uniform(1, options.tokens));
  SequenceState seq = model.new_sequence(ctx);
  SequenceState* const one[] = {&seq};
  double error = 0;
  for (int64_t at = 0; at < options.tokens;) {
    const int64_t n =
        at == 0 ? std::max<int64_t>(1, options.tokens - 9) : 1;  // one prefill, then steps
    Batch b;
    b.seq_starts = {0, n};
    b.offsets = {at};
    const Tensor h = model.hidden(
        ctx, std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n)), b, one);
    error = std::max(error, relative_error(whole.narrow(0, at, n), h));
    at += n;
  }
  out.push_back({"stack", "prefill + steps = one pass", error, 10 * kSameBound});
  Context single = ctx;
  single.threads = 1;
  const Tensor alone = model.hidden(single, ids, Batch::uniform(1, options.tokens));
  const bool equal = std::equal(whole.data(), whole.data() + whole.count(), alone.data());
  out.push_back({"stack", "one thread = all threads, bitwise", equal ? 0.0 : 1.0, 0});
}

// "moba{block=9,top_k=3}": of the options those that `layer` has otherwise.
std::string narrowed_label(const std::string& name, const Layer& layer, const Layer& narrowed) {
  std::string changed;
  const Options before = layer.options(), after = narrowed.options();
  for (const Options::Item& item : after.items()) {
    const auto same = [&](const Options::Item& old) {
      return old.key == item.key && old.value == item.value;
    };
    if (std::any_of(before.items().begin(), before.items().end(), same)) continue;
    changed += (changed.empty() ? "" : ",") + item.key + "=" + item.value;
  }
  return format("{}{{{}}}", name, changed);
}

void verify_choice(const Context& ctx, Model& model, const Model::SubLayer& sub,
                   const VerifyOptions& options, std::vector<VerifyCheck>& out) {
  constexpr int64_t kLongest = 1024;  // the reference is slow on purpose
  const auto* chooser = dynamic_cast<const Chooser*>(sub.layer);
  if (chooser == nullptr || chooser->sees() < options.tokens) return;
  const std::unique_ptr<Layer> small = chooser->narrowed();
  if (small == nullptr) return;
  const int64_t sees = dynamic_cast<const Chooser&>(*small).sees();
  const int64_t positions = model.settings().positions;
  VerifyOptions own = options;
  own.tokens = std::max(options.tokens, 2 * sees);
  if (positions > 0) own.tokens = std::min(own.tokens, positions);
  if (own.tokens > std::max(kLongest, options.tokens) || own.tokens <= sees) {
    if (options.on_untested) {
      options.on_untested(
          format("{} sees all of {} tokens; what it leaves out of more is not "
                 "tested: raise --tokens or give it smaller blocks",
                 sub.name, options.tokens));
    }
    return;
  }
  LayerVerifier(ctx, model, sub, *small, narrowed_label(sub.name, *sub.layer, *small), own, out)
      .run();
}

}  // namespace

void perturb_small_parameters(Model& model, uint64_t seed) {
  for (Parameter& p : model.parameters()) {
    if (p.role != ParamRole::kVector) continue;
    const Rng rng(seed, "verify/perturb/" + p.name);
    for (int64_t i = 0; i < p.value.count(); ++i) {
      p.value.data()[i] += static_cast<float>(0.1 * rng.normal(static_cast<uint64_t>(i)));
    }
  }
}

std::vector<VerifyCheck> verify_stack(const Context& ctx, Model& model, const VerifyOptions& asked,
                                      FunctionRef<void(const VerifyProgress&)> progress) {
  VerifyOptions options = asked;
  if (const int64_t positions = model.settings().positions; positions > 0) {
    options.tokens = std::min(options.tokens, positions);
  }
  std::vector<VerifyCheck> out;
  std::set<std::string> known;  // layers of equal kind and options are verified once
  std::vector<Model::SubLayer> layers;
  for (Model::SubLayer& sub : model.sublayers()) {
    if (sub.reads) continue;  // verified with the stack around it
    if (known.insert(sub.name + "{" + sub.layer->options().str() + "}").second)
      layers.push_back(std::move(sub));
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    progress({i, layers.size() + 1, layers[i].name});
    const Model::SubLayer& sub = layers[i];
    LayerVerifier(ctx, model, sub, *sub.layer, sub.name, options, out).run();
    verify_choice(ctx, model, sub, options, out);
  }
  progress({layers.size(), layers.size() + 1, "the whole stack"});
  verify_wiring(ctx, model, options, out);
  verify_model(ctx, model, options, out);
  return out;
}

}  // namespace braid

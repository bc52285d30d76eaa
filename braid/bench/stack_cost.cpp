#include "braid/bench/stack_cost.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/function_ref.h"
#include "braid/base/stats.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/fill.h"
#include "braid/bench/limits_kernel.h"
#include "braid/bench/plan.h"
#include "braid/core/parallel.h"
#include "braid/infer/generate.h"
#include "braid/ops/tape.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

// A sample is as many runs as fill this, so that the clock and the start of threads do not count.
constexpr double kSampleSeconds = 2e-2;
constexpr int kDecodeTokens = 4;  // of a sample, at least
constexpr int kMostDecodeTokens = 256;
// The clock as an object, which is what FunctionRef takes.
constexpr auto kClock = [] { return now_seconds(); };
// Between the growth of a recurrence and that of attention: how a case's time is guessed from a
// shorter one's.
constexpr double kGuessedGrowth = 1.5;

struct Split {
  double forward = 0, backward = 0;
};

// Something whose cost is measured. `now` is the clock, or counts products on a dry context.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Split train(const Context& ctx, int64_t length, FunctionRef<double()> now) = 0;
  // Seconds of one token after `context` others.
  virtual double decode(const Context& ctx, int64_t context) = 0;
};

// One untimed token, for the weights' sake, then timed ones.
double seconds_per_token(FunctionRef<void()> token) {
  token();
  const double start = now_seconds();
  double took = 0;
  int tokens = 0;
  while (tokens < kDecodeTokens || (took < kSampleSeconds && tokens < kMostDecodeTokens)) {
    token();
    ++tokens;
    took = now_seconds() - start;
  }
  return took / tokens;
}

class StackSubject final : public Subject {
 public:
  explicit StackSubject(Model& model) : model_(model) {}

  Split train(const Context& ctx, int64_t length, FunctionRef<double()> now) override {
    std::vector<int32_t> ids;
    const Rng rng(4, "tokens");
    for (int64_t i = 0; i <= length; ++i) {
      ids.push_back(static_cast<int32_t>(
          rng.below(static_cast<uint64_t>(i), static_cast<uint64_t>(model_.settings().vocab))));
    }
    model_.parameters().zero_grads(ctx);
    Tape tape;
    Context recorded = ctx;
    recorded.tape = &tape;
    const double begin = now();
    const auto n = static_cast<size_t>(length);
    const LossResult loss = model_.loss(recorded, std::span(ids).first(n), std::span(ids).last(n),
                                        Batch::uniform(1, length));
    const double middle = now();
    tape.backward(ctx, loss.loss);
    return {middle - begin, now() - middle};
  }

  double decode(const Context& ctx, int64_t context) override {
    SequenceState sequence = synthetic_sequence(ctx, model_, context);
    const int32_t token = static_cast<int32_t>('e' % model_.settings().vocab);
    return seconds_per_token([&] { advance(ctx, model_, sequence, {&token, 1}); });
  }

 private:
  Model& model_;
};

class LayerSubject final : public Subject {
 public:
  LayerSubject(Layer& layer, int64_t width) : layer_(layer), width_(width) {}

  Split train(const Context& ctx, int64_t length, FunctionRef<double()> now) override {
    Tensor x = input(ctx, length, "x");
    const Tensor gradient = input(ctx, length, "gradient");
    Tape tape;
    Context recorded = ctx;
    recorded.tape = &tape;
    tape.watch(x);
    const double begin = now();
    const Tensor y = layer_.forward(recorded, x, Batch::uniform(1, length), {});
    const double middle = now();
    tape.backward(ctx, y, gradient);
    return {middle - begin, now() - middle};
  }

  double decode(const Context& ctx, int64_t context) override {
    const std::unique_ptr<LayerState> state = layer_.make_state(ctx);
    if (state) fill_state(ctx, *state, context);
    LayerState* const one[] = {state.get()};
    const Tensor x = input(ctx, 1, "x");
    Batch batch;
    batch.seq_starts = {0, 1};
    batch.offsets = {context};
    return seconds_per_token([&] {
      layer_.forward(ctx, x, batch, state ? States(one) : States());
      ++batch.offsets[0];
    });
  }

 private:
  Tensor input(const Context& ctx, int64_t rows, const char* use) const {
    return ctx.dry() ? Tensor::empty(ctx, {rows, width_})
                     : normal_tensor(ctx, {rows, width_}, 1.0, use);
  }
  Layer& layer_;
  int64_t width_;
};

// Each distinct layer of a stack: as printed, how often it runs, and where it is in the model.
struct LayerUse {
  std::string label;
  size_t slot;  // of its first appearance
  int64_t runs;
};

std::vector<LayerUse> layer_uses(const Model& model) {
  const FlatStack flat = flatten(parse_stack(model.canonical_stack()));
  std::vector<LayerUse> uses;
  for (const FlatStack::Step& step : flat.steps) {
    const auto slot = static_cast<size_t>(step.layer);
    const FlatStack::Leaf& leaf = flat.leaves[static_cast<size_t>(flat.layers[slot])];
    const std::string label = print_stack({{StackItem{1, false, leaf.layers, {}, leaf.join}}});
    const auto same =
        std::find_if(uses.begin(), uses.end(), [&](const LayerUse& u) { return u.label == label; });
    if (same == uses.end()) {
      uses.push_back({label, slot, 1});
    } else {
      ++same->runs;
    }
  }
  return uses;
}

int64_t parameters_below(const Model& model, const std::string& path) {
  int64_t n = 0;
  for (const Parameter& p : model.parameters()) {
    if (p.role != ParamRole::kBuffer && p.name.starts_with(path)) n += p.value.count();
  }
  return n;
}

// What is measured together with where its results go.
struct Measured {
  std::unique_ptr<Subject> subject, dry;  // `dry` counts products
  CostSubject* result;
  std::unique_ptr<Plan> plan;  // stacks only: what bounds a decoded token
  const Layer* layer;          // layers only
};

struct Case {
  bool decode;
  int64_t length;
  double cost = 0;  // seconds of its last visit
  bool left_out = false;
};

// Readings of the machine's limits.
class Limits {
 public:
  explicit Limits(const Context& ctx) : ctx_(unbudgeted(ctx)), probe_(ctx_) {
    for (int i = 0; i < 3; ++i) read(true);
  }
  MachineLimits read(bool memory) {
    MachineLimits now;
    now.peak_gflops = take(Limit::kPeak);
    now.read_gbs = memory ? take(Limit::kRead) : 0;
    now.read_write_gbs = memory ? take(Limit::kReadWrite) : 0;
    return now;
  }
  MachineLimits medians(const Context& ctx) const {
    MachineLimits m;
    m.threads = effective_threads(ctx);
    m.cpu = cpu_name();
    m.instructions = probe_instructions(ctx);
    m.peak_gflops = median(readings_[static_cast<int>(Limit::kPeak)]);
    m.read_gbs = median(readings_[static_cast<int>(Limit::kRead)]);
    m.read_write_gbs = median(readings_[static_cast<int>(Limit::kReadWrite)]);
    return m;
  }

 private:
  double take(Limit limit) {
    const double value = probe_.measure(limit);
    readings_[static_cast<int>(limit)].push_back(value);
    return value;
  }
  static Context unbudgeted(const Context& ctx) {
    Context own;
    own.threads = ctx.threads;
    return own;
  }
  Context ctx_;
  LimitProbe probe_;
  std::vector<double> readings_[3];
};

MachineLimits between(const MachineLimits& a, const MachineLimits& b) {
  MachineLimits m;
  m.peak_gflops = (a.peak_gflops + b.peak_gflops) / 2;
  m.read_gbs = (a.read_gbs + b.read_gbs) / 2;
  m.read_write_gbs = (a.read_write_gbs + b.read_write_gbs) / 2;
  return m;
}

CostPoint& point_at(CostSubject& subject, CostPhase phase, int64_t length) {
  std::vector<CostPoint>& points = subject.points[static_cast<int>(phase)];
  for (CostPoint& p : points) {
    if (p.length == length) return p;
  }
  CostPoint fresh;
  fresh.length = length;
  points.push_back(std::move(fresh));
  return points.back();
}

class StackMeasurement {
 public:
  StackMeasurement(const Context& ctx, std::span<const ModelSettings> stacks,
                   const StackCostOptions& options,
                   const std::function<void(const CostProgress&)>& progress,
                   const std::function<bool()>& stop)
      : ctx_(ctx), options_(options), progress_(progress), stop_(stop), start_(now_seconds()) {
    dry_.arena = Arena::create(Arena::Mode::kDry);
    dry_.counters = &counters_;
    costs_.stacks.resize(stacks.size());
    for (size_t i = 0; i < stacks.size(); ++i) {
      models_.push_back(std::make_unique<Model>(ctx, stacks[i]));
      dry_models_.push_back(std::make_unique<Model>(dry_, stacks[i]));
      models_.back()->parameters().allocate_grads(ctx);
      dry_models_.back()->parameters().allocate_grads(dry_);
      describe_stack(i);
    }
    if (options.layers) find_layers();
    for (const int64_t n : options.lengths) cases_.push_back({false, n});
    for (const int64_t n : options.contexts) cases_.push_back({true, n});
    std::stable_sort(cases_.begin(), cases_.end(),
                     [](const Case& a, const Case& b) { return a.length < b.length; });
  }

  StackCosts run() {
    Limits limits(ctx_);
    for (int round = 0; round < options_.rounds; ++round) {
      if (round > 0 && elapsed() + round_cost() > options_.seconds) break;
      for (size_t i = 0; i < cases_.size(); ++i) {
        Case& c = cases_[i];
        if (round == 0 && i > 0) leave_out_if_long(c);
        if (c.left_out) continue;
        if (stop_ && stop_()) {
          if (round == 0) throw Error(ErrorKind::kInterrupted, "interrupted in the first round");
          costs_.interrupted = true;
          return finished(limits);
        }
        tell(round, i);
        const double begin = now_seconds();
        visit(c, round, limits);
        c.cost = now_seconds() - begin;
      }
      ++costs_.rounds;
    }
    return finished(limits);
  }

 private:
  StackCosts finished(const Limits& limits) {
    costs_.limits = limits.medians(ctx_);
    costs_.seconds = elapsed();
    return std::move(costs_);
  }

  double elapsed() const { return now_seconds() - start_; }

  double round_cost() const {
    double sum = 0;
    for (const Case& c : cases_) sum += c.left_out ? 0 : c.cost;
    return sum;
  }

  void describe_stack(size_t index) {
    const Model& model = *models_[index];
    check_positions(model);
    CostSubject& s = costs_.stacks[index];
    s.label = stack_label(index);
    s.expression = model.canonical_stack();
    s.parameters = model.parameters().trained_count();
    s.active = s.parameters - model.idle_parameters();
    PlanOptions plan;
    plan.contexts = options_.contexts;
    plan.prefill = plan.batch = plan.seq_len = 1;
    Measured m{std::make_unique<StackSubject>(*models_[index]),
               std::make_unique<StackSubject>(*dry_models_[index]), &s, nullptr, nullptr};
    m.plan = std::make_unique<Plan>(make_plan(model.settings(), plan, MachineLimits{}));
    measured_.push_back(std::move(m));
  }

  void check_positions(const Model& model) const {
    const int64_t most = model.settings().positions;
    const auto check = [&](const std::vector<int64_t>& lengths, const char* flag, int64_t room) {
      for (const int64_t n : lengths) {
        if (n < 1) {
          throw Error(ErrorKind::kUsage,
                      format("{} has {}; lengths are whole numbers of at least 1", flag, n));
        }
        if (most == 0 || n + room <= most) continue;
        throw Error(ErrorKind::kUsage,
                    format("{} has {}, but a model with {} learned positions takes at most {}",
                           flag, n, most, most - room));
      }
    };
    check(options_.lengths, "--lengths", 0);
    check(options_.contexts, "--contexts", kMostDecodeTokens + 1);
  }

  void find_layers() {
    struct Place {
      size_t model, slot;
    };
    std::vector<Place> places;
    for (size_t m = 0; m < models_.size(); ++m) {
      for (const LayerUse& u : layer_uses(*models_[m])) {
        auto known = std::find_if(costs_.layers.begin(), costs_.layers.end(),
                                  [&](const CostSubject& s) { return s.label == u.label; });
        if (known == costs_.layers.end()) {
          CostSubject fresh;
          fresh.label = fresh.expression = u.label;
          fresh.used.assign(models_.size(), 0);
          costs_.layers.push_back(std::move(fresh));
          places.push_back({m, u.slot});
          known = costs_.layers.end() - 1;
        }
        known->used[m] = u.runs;
      }
    }
    for (size_t i = 0; i < places.size(); ++i) {
      CostSubject& s = costs_.layers[i];
      const Model& model = *models_[places[i].model];
      const Model::SubLayer sub = model.sublayers()[places[i].slot];
      const Model::SubLayer dry = dry_models_[places[i].model]->sublayers()[places[i].slot];
      s.parameters = parameters_below(model, sub.scope);
      s.active = s.parameters - sub.layer->idle_parameters();
      if (sub.reads) {
        s.alone = "reads another layer's values, so it runs only within its stack";
        continue;
      }
      const int64_t width = model.settings().width;
      measured_.push_back({std::make_unique<LayerSubject>(*sub.layer, width),
                           std::make_unique<LayerSubject>(*dry.layer, width), &s, nullptr,
                           sub.layer});
    }
  }

  // Where the time left is less than this case is guessed to take, it and all longer ones go.
  void leave_out_if_long(Case& c) {
    const Case* before = nullptr;
    bool shorter_left_out = false;
    for (const Case& other : cases_) {
      if (&other == &c) break;
      if (other.decode != c.decode) continue;
      before = &other;
      shorter_left_out = other.left_out;
    }
    if (before == nullptr) return;
    const double guess =
        before->cost * std::pow(static_cast<double>(c.length) / static_cast<double>(before->length),
                                c.decode ? 1 : kGuessedGrowth);
    c.left_out = shorter_left_out || elapsed() + guess > options_.seconds;
    if (!c.left_out) return;
    costs_.left_out.push_back(
        format("{} {} tokens", c.decode ? "decode after" : "forward and backward of", c.length));
  }

  void tell(int round, size_t index) {
    if (!progress_) return;
    const Case& c = cases_[index];
    double rest = options_.seconds - elapsed();
    if (round > 0) {
      double cost = round_cost() * (options_.rounds - round);
      for (size_t i = 0; i < index; ++i) cost -= cases_[i].left_out ? 0 : cases_[i].cost;
      rest = std::min(rest, cost);
    }
    progress_({format("round {} of {}: {} {} tokens", round + 1, options_.rounds,
                      c.decode ? "a token after" : "forward and backward of", c.length),
               std::max(0.0, rest)});
  }

  void visit(const Case& c, int round, Limits& limits) {
    const MachineLimits before = limits.read(c.decode);
    struct Sample {
      Measured* measured;
      Split seconds;
    };
    std::vector<Sample> samples;
    const size_t n = measured_.size();
    for (size_t i = 0; i < n; ++i) {
      Measured& m = measured_[round % 2 == 0 ? i : n - 1 - i];  // a drift within a round cancels
      samples.push_back({&m, c.decode ? Split{m.subject->decode(ctx_, c.length), 0}
                                      : train_sample(m, c.length, round)});
      ctx_.arena->trim();
    }
    const MachineLimits now = between(before, limits.read(c.decode));
    for (const Sample& s : samples) {
      if (c.decode) {
        add_decode(*s.measured, c.length, s.seconds.forward, now);
      } else {
        add_train(*s.measured, c.length, s.seconds, now);
      }
    }
  }

  // The first run makes kernels and faults pages in.
  Split train_sample(Measured& m, int64_t length, int round) {
    const Split first = m.subject->train(ctx_, length, kClock);
    if (round > 0 && first.forward + first.backward > kSampleSeconds) return first;
    Split sum;
    int runs = 0;
    while (runs == 0 || sum.forward + sum.backward < kSampleSeconds) {
      const Split one = m.subject->train(ctx_, length, kClock);
      sum.forward += one.forward;
      sum.backward += one.backward;
      ++runs;
    }
    return {sum.forward / runs, sum.backward / runs};
  }

  void add_train(Measured& m, int64_t length, const Split& seconds, const MachineLimits& now) {
    CostPoint& forward = point_at(*m.result, CostPhase::kForward, length);
    CostPoint& backward = point_at(*m.result, CostPhase::kBackward, length);
    if (forward.seconds.empty()) {
      counters_.product_flops = 0;
      const Split flops = m.dry->train(dry_, length, [this] { return counters_.product_flops; });
      forward.flops = flops.forward;
      backward.flops = flops.backward;
    }
    forward.seconds.push_back(seconds.forward);
    backward.seconds.push_back(seconds.backward);
    forward.shares.push_back(forward.flops / seconds.forward / (now.peak_gflops * 1e9));
    backward.shares.push_back(backward.flops / seconds.backward / (now.peak_gflops * 1e9));
  }

  void add_decode(Measured& m, int64_t context, double seconds, const MachineLimits& now) {
    CostPoint& p = point_at(*m.result, CostPhase::kDecode, context);
    p.seconds.push_back(seconds);
    if (m.plan == nullptr) {
      p.state_bytes = m.layer->state_bytes(context);
      return;
    }
    for (const PlanContext& c : m.plan->contexts) {
      if (c.tokens != context) continue;
      p.state_bytes = c.state_bytes;
      p.flops = c.decode_flops;
      p.shares.push_back(decode_seconds(*m.plan, c, now) / seconds);
    }
  }

  const Context& ctx_;
  const StackCostOptions& options_;
  const std::function<void(const CostProgress&)>& progress_;
  const std::function<bool()>& stop_;
  double start_;
  Counters counters_;
  Context dry_;
  std::vector<std::unique_ptr<Model>> models_, dry_models_;
  StackCosts costs_;
  std::vector<Measured> measured_;  // stacks, then the layers that run alone
  std::vector<Case> cases_;
};

std::vector<int64_t> sorted_unique(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

}  // namespace

const char* phase_name(CostPhase phase) {
  constexpr const char* names[] = {"forward", "backward", "decode"};
  return names[static_cast<int>(phase)];
}

double CostPoint::median_seconds() const { return median(seconds); }
double CostPoint::median_share() const { return median(shares); }

const CostPoint* CostSubject::at(CostPhase phase, int64_t length) const {
  for (const CostPoint& p : of(phase)) {
    if (p.length == length) return &p;
  }
  return nullptr;
}

StackCosts measure_stacks(const Context& ctx, std::span<const ModelSettings> stacks,
                          const StackCostOptions& options,
                          const std::function<void(const CostProgress&)>& progress,
                          const std::function<bool()>& stop) {
  BRAID_CHECK(!stacks.empty());
  give_threads_to_libraries(ctx);
  StackCostOptions sorted = options;
  sorted.lengths = sorted_unique(sorted.lengths);
  sorted.contexts = sorted_unique(sorted.contexts);
  return StackMeasurement(ctx, stacks, sorted, progress, stop).run();
}

std::string stack_label(size_t index) {
  std::string label(1, static_cast<char>('A' + index % 26));
  if (index >= 26) label += format("{}", index / 26);
  return label;
}

std::vector<Crossover> crossovers(std::span<const RatioPoint> points) {
  std::vector<Crossover> found;
  for (size_t i = 1; i < points.size(); ++i) {
    const double a = std::log(points[i - 1].ratio), b = std::log(points[i].ratio);
    if (!(a >= 0 && b < 0) && !(a <= 0 && b > 0)) continue;
    const double from = std::log(static_cast<double>(points[i - 1].length));
    const double to = std::log(static_cast<double>(points[i].length));
    found.push_back({std::exp(from + (to - from) * a / (a - b)), b < 0});
  }
  return found;
}

std::vector<RatioPoint> cost_ratios(const CostSubject& a, const CostSubject& b, CostPhase phase) {
  std::vector<RatioPoint> points;
  for (const CostPoint& p : a.of(phase)) {
    const CostPoint* q = b.at(phase, p.length);
    if (q == nullptr) continue;
    std::vector<double> ratios;
    for (size_t r = 0; r < std::min(p.seconds.size(), q->seconds.size()); ++r) {
      ratios.push_back(q->seconds[r] / p.seconds[r]);
    }
    points.push_back({p.length, median(ratios)});
  }
  return points;
}

std::vector<RatioPoint> state_ratios(const CostSubject& a, const CostSubject& b) {
  std::vector<RatioPoint> points;
  for (const CostPoint& p : a.of(CostPhase::kDecode)) {
    const CostPoint* q = b.at(CostPhase::kDecode, p.length);
    if (q == nullptr || p.state_bytes == 0 || q->state_bytes == 0) continue;
    points.push_back(
        {p.length, static_cast<double>(q->state_bytes) / static_cast<double>(p.state_bytes)});
  }
  return points;
}

}  // namespace braid

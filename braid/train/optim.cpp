#include "braid/train/optim.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <mutex>
#include <set>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"
#include "braid/core/parallel.h"
#include "braid/kernels/optim/adamw.h"

namespace braid {
namespace {

constexpr int64_t kChunk = 1 << 16;
// Matrices up to this size are iterated one per thread, within its own cache; larger ones by all
// threads together.
constexpr int64_t kOwnThread = int64_t{1} << 20;

void check_range(const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    throw Error(ErrorKind::kUsage,
                format("{} is {}; it must be from {} to {}", name, value, low, high));
  }
}

}  // namespace

void check_optim(const OptimConfig& c) {
  const double large = 1e6;
  check_range("lr", c.lr, 0, large);
  check_range("embedding lr ratio", c.embedding_lr_ratio, 0, large);
  check_range("beta1", c.beta1, 0, 1 - 1e-9);
  check_range("beta2", c.beta2, 0, 1 - 1e-9);
  check_range("eps", c.eps, 0, 1);
  check_range("weight decay", c.weight_decay, 0, large);
  check_range("clip norm", c.clip_norm, 0, std::numeric_limits<double>::infinity());
  check_range("Muon's momentum", c.muon.beta, 0, 1);
  check_range("Muon's beta2", c.muon.beta2, 0, 1);
}

namespace {

// "layers.0.gqa.q_proj.weight, ...": what a pattern that fits nothing is nearest to.
std::string near_names(const ParameterSet& parameters, const std::string& pattern) {
  constexpr size_t kShown = 3, kLongest = 256;
  std::vector<std::pair<size_t, const Parameter*>> near;
  for (const Parameter& p : parameters)
    near.emplace_back(pattern_distance(p.name, pattern.substr(0, kLongest)), &p);
  std::stable_sort(near.begin(), near.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  near.resize(std::min(near.size(), kShown));
  std::string all;
  for (const auto& [distance, p] : near) all += (all.empty() ? "" : ", ") + p->name;
  return all;
}

}  // namespace

void freeze_parameters(ParameterSet& parameters, const TrainedNames& names) {
  const auto fits = [](const Parameter& p, const std::vector<std::string>& patterns) {
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const std::string& one) { return matches_pattern(p.name, one); });
  };
  for (const auto* patterns : {&names.only, &names.frozen}) {
    for (const std::string& one : *patterns) {
      if (std::any_of(parameters.begin(), parameters.end(),
                      [&](const Parameter& p) { return fits(p, {one}); }))
        continue;
      throw Error(ErrorKind::kUsage,
                  format("no parameter's name fits \"{}\"; near are {} (`braid plan --parameters` "
                         "lists all)",
                         printable(one), near_names(parameters, one)));
    }
  }
  bool trains = false;
  for (Parameter& p : parameters) {
    p.frozen = (!names.only.empty() && !fits(p, names.only)) || fits(p, names.frozen);
    trains = trains || (!p.frozen && p.role != ParamRole::kBuffer);
  }
  if (!trains)
    throw Error(ErrorKind::kUsage, "every parameter is frozen; nothing is left to train");
}

namespace {

// Hands out one of a few equal blocks of scratch to whoever asks from a parallel range.
class ScratchPool {
 public:
  ScratchPool(const Context& ctx, int64_t floats, int count) {
    for (int i = 0; i < count; ++i) free_.push_back(Tensor::empty(ctx, {floats}));
  }
  template <typename Use>
  void with(Use&& use) {
    Tensor mine;
    {
      const std::lock_guard lock(mutex_);
      mine = free_.back();
      free_.pop_back();
    }
    use(mine.data());
    const std::lock_guard lock(mutex_);
    free_.push_back(mine);
  }

 private:
  std::mutex mutex_;
  std::vector<Tensor> free_;
};

}  // namespace

Optimizer::Optimizer(const Context& ctx, ParameterSet& parameters, const OptimConfig& config)
    : config_(config) {
  check_optim(config);
  freeze_parameters(parameters, config.trained);
  for (Parameter& p : parameters) {
    if (p.role == ParamRole::kBuffer || p.frozen) continue;
    BRAID_CHECK(p.value.contiguous() && p.value.dtype() == DType::kF32);
    const size_t index = slots_.size();
    Slot slot{&p, config.use_muon && p.role == ParamRole::kMatrix && p.value.rank() >= 2, {}, {}};
    slot.first = Tensor::zeros(ctx, p.value.shape());
    if (!slot.muon) slot.second = Tensor::zeros(ctx, p.value.shape());
    slots_.push_back(std::move(slot));
    if (slots_[index].muon) add_muon_matrices(index);
    if (slots_[index].muon && config.muon.variant == MuonVariant::kNanochat) {
      const MuonJob& last = jobs_.back();
      slots_[index].second =
          Tensor::zeros(ctx, {last.second_offset + std::max(last.rows, last.cols)});
    }
    for (int64_t i = 0; i < p.value.count(); i += kChunk) {
      chunks_.push_back({index, i, std::min(p.value.count(), i + kChunk)});
    }
  }
  std::stable_sort(jobs_.begin(), jobs_.end(), [](const MuonJob& a, const MuonJob& b) {
    return MuonMatrix{a.rows, a.cols}.flops() > MuonMatrix{b.rows, b.cols}.flops();
  });
}

void Optimizer::add_muon_matrices(size_t index) {
  const Parameter& p = *slots_[index].parameter;
  const int64_t cols = p.value.size(-1), all_rows = cols == 0 ? 0 : p.value.count() / cols;
  std::vector<int64_t> splits = p.row_splits;
  if (splits.empty()) {
    const int64_t rows = p.value.size(-2);
    splits.assign(static_cast<size_t>(rows == 0 ? 0 : all_rows / rows), rows);
  }
  int64_t row = 0, second = 0;
  for (const int64_t rows : splits) {
    BRAID_CHECK(rows > 0 && cols > 0);
    jobs_.push_back({index, row * cols, second, rows, cols});
    row += rows;
    second += std::max(rows, cols);
  }
  BRAID_CHECK(row == all_rows);
}

MuonMatrix Optimizer::matrix(size_t index) const {
  const MuonJob& job = jobs_[index];
  const Slot& slot = slots_[job.slot];
  MuonMatrix m{job.rows, job.cols};
  m.weight = slot.parameter->value.data() + job.offset;
  m.grad = slot.parameter->grad.data() + job.offset;
  m.momentum = slot.first.data() + job.offset;
  if (slot.second.defined()) m.second_moment = slot.second.data() + job.second_offset;
  return m;
}

double Optimizer::gradient_norm(const Context& ctx) const {
  std::vector<double> partial(chunks_.size(), 0.0);
  parallel_for(ctx, static_cast<int64_t>(chunks_.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<size_t>(i)];
      partial[static_cast<size_t>(i)] =
          sum_of_squares(c.end - c.begin, slots_[c.slot].parameter->grad.data() + c.begin);
    }
  });
  double sum = 0;
  for (const double p : partial) sum += p;
  return std::sqrt(sum);
}

OptimStep Optimizer::step(const Context& ctx, double lr_scale, double skip_above) {
  for (const Slot& slot : slots_) BRAID_CHECK(slot.parameter->grad.defined());
  OptimStep result;
  result.grad_norm = gradient_norm(ctx);
  if (!std::isfinite(result.grad_norm) || result.grad_norm > skip_above) return result;
  const bool clip = config_.clip_norm > 0 && result.grad_norm > config_.clip_norm;
  const float grad_scale = clip ? static_cast<float>(config_.clip_norm / result.grad_norm) : 1.0f;
  ++steps_;
  step_muon(ctx, config_.lr * lr_scale, grad_scale);
  step_adam(ctx, config_.lr * lr_scale, grad_scale);
  result.applied = true;
  return result;
}

void Optimizer::step_adam(const Context& ctx, double lr, float grad_scale) {
  AdamWStep base;
  base.grad_scale = grad_scale;
  base.beta1 = static_cast<float>(config_.beta1);
  base.beta2 = static_cast<float>(config_.beta2);
  base.eps = static_cast<float>(config_.eps);
  const double t = static_cast<double>(steps_);
  base.correction1 = static_cast<float>(1 / (1 - std::pow(config_.beta1, t)));
  base.correction2 = static_cast<float>(1 / (1 - std::pow(config_.beta2, t)));
  parallel_for(ctx, static_cast<int64_t>(chunks_.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<size_t>(i)];
      const Slot& slot = slots_[c.slot];
      if (slot.muon) continue;
      const Parameter& p = *slot.parameter;
      AdamWStep s = base;
      s.lr = static_cast<float>(p.role == ParamRole::kEmbedding ? lr * config_.embedding_lr_ratio
                                                                : lr);
      s.decay = p.role == ParamRole::kMatrix ? static_cast<float>(lr * config_.weight_decay) : 0.0f;
      adamw_step(c.end - c.begin, s, p.value.data() + c.begin, p.grad.data() + c.begin,
                 slot.first.data() + c.begin, slot.second.data() + c.begin);
    }
  });
}

void Optimizer::step_muon(const Context& ctx, double lr, float grad_scale) {
  const auto floats = [&](const MuonJob& j) { return muon_scratch_floats(j.rows, j.cols); };
  const auto run = [&](size_t i, float* scratch) {
    const MuonMatrix m = matrix(i);
    const float* o = muon_direction(ctx, m, config_.muon, grad_scale, scratch);
    muon_apply_direction(m, config_.muon.variant, lr, config_.weight_decay, o);
  };
  size_t large = 0;  // jobs_[0, large) are shared by all threads
  int64_t large_floats = 0, small_floats = 0;
  // Jobs are sorted by cost, which does not order sizes exactly: the split is at the last large
  // one.
  for (size_t i = 0; i < jobs_.size(); ++i) {
    if (jobs_[i].rows * jobs_[i].cols > kOwnThread) large = i + 1;
  }
  for (size_t i = 0; i < jobs_.size(); ++i) {
    int64_t& most = i < large ? large_floats : small_floats;
    most = std::max(most, floats(jobs_[i]));
  }
  if (large > 0) {
    const Tensor scratch = Tensor::empty(ctx, {large_floats});
    for (size_t i = 0; i < large && !ctx.dry(); ++i) run(i, scratch.data());
  }
  const int64_t small = static_cast<int64_t>(jobs_.size() - large);
  if (small == 0) return;
  const int64_t workers = std::min<int64_t>(effective_threads(ctx), small);
  ScratchPool pool(ctx, small_floats, static_cast<int>(workers));
  parallel_for(ctx, small, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      pool.with([&](float* scratch) { run(large + static_cast<size_t>(i), scratch); });
    }
  });
}

size_t Optimizer::state_bytes() const {
  size_t n = 0;
  for (const NamedTensor& t : state()) n += t.tensor.bytes();
  return n;
}

double Optimizer::step_flops() const {
  double sum = 0;
  for (const MuonJob& j : jobs_) sum += MuonMatrix{j.rows, j.cols}.flops();
  return sum;
}

std::vector<Optimizer::NamedTensor> Optimizer::state() const {
  std::vector<NamedTensor> out;
  for (const Slot& s : slots_) {
    const std::string& name = s.parameter->name;
    out.push_back({(s.muon ? "momentum." : "adam_m.") + name, s.first});
    if (s.second.defined())
      out.push_back({(s.muon ? "second_moment." : "adam_v.") + name, s.second});
  }
  return out;
}

void Optimizer::save(SafetensorsWriter& out) const {
  for (const NamedTensor& t : state()) out.add(t.name, t.tensor);
  out.set_metadata("steps", format("{}", steps_));
}

void Optimizer::load(const SafetensorsFile& in) {
  const std::vector<NamedTensor> mine = state();
  std::string problems;
  std::set<std::string> known;
  for (const NamedTensor& t : mine) {
    known.insert(t.name);
    const SafetensorsEntry* e = in.find(t.name);
    if (e == nullptr) {
      problems += format("; {} is missing", t.name);
      continue;
    }
    const Tensor saved = in.tensor(t.name);
    if (saved.shape() == t.tensor.shape() && saved.dtype() == DType::kF32) continue;
    problems += format("; {} is {} {}, not f32 {}", t.name, dtype_name(saved.dtype()),
                       saved.shape().str(), t.tensor.shape().str());
  }
  for (const SafetensorsEntry& e : in.entries()) {
    if (known.count(e.name) == 0) problems += format("; {} belongs to no parameter", e.name);
  }
  const std::string& steps = in.metadata("steps");
  int64_t n = -1;
  const auto [end, error] = std::from_chars(steps.data(), steps.data() + steps.size(), n);
  if (error != std::errc() || end != steps.data() + steps.size() || n < 0) {
    problems += format("; steps is \"{}\"", steps);
  }
  if (!problems.empty()) {
    throw Error(ErrorKind::kBadInput,
                format("{}: optimizer state of another model or optimizer{}", in.path(), problems));
  }
  for (const NamedTensor& t : mine) {
    const Tensor saved = in.tensor(t.name);
    if (saved.count() > 0) std::memcpy(t.tensor.data(), saved.data(), saved.bytes());
  }
  steps_ = n;
}

}  // namespace braid

#include <deque>
#include <optional>

#include "braid/base/format.h"
#include "braid/layers/residual.h"
#include "braid/layers/residuals/attnres/attnres_ref.h"
#include "braid/ops/depth.h"
#include "braid/ops/elementwise.h"

namespace braid {
namespace {

struct AttnresConfig {
  int64_t block_sublayers = 1;  // sub-layers whose outputs share one running sum; 1 = full
  double scale = 1;             // of the depth logits
  void visit(OptionVisitor& v) {
    v.field("block_sublayers", block_sublayers, 1);
    v.field("scale", scale, 1.0);
  }
};

// Below this many completed sources the shared pass costs more than it saves (README).
constexpr size_t kTwoPhaseSources = 8;
constexpr int64_t kTwoPhaseTokens = 64;

struct Attnres {
  AttnresConfig config;
  DepthConfig depth;
  int64_t sublayers;
  std::vector<DepthQuery> reads;  // one per sub-layer, then the read-out
};

class AttnresRun final : public ResidualRun {
 public:
  AttnresRun(const Context& ctx, const Attnres& owner, const Tensor& embedding)
      : owner_(owner),
        two_phase_(ctx.tape == nullptr && owner.config.block_sublayers > 1 &&
                   embedding.size(0) >= kTwoPhaseTokens),
        done_({embedding}) {}

  Tensor input(const Context& ctx, int64_t index) override {
    BRAID_CHECK(index == next_ && index < owner_.sublayers);
    const int64_t block = owner_.config.block_sublayers;
    if (index % block == 0) {
      if (partial_.defined()) done_.push_back(std::move(partial_));
      partial_ = Tensor();
      shared_.reset();
      if (two_phase_ && done_.size() >= kTwoPhaseSources) {
        const size_t last = static_cast<size_t>(std::min(index + block, owner_.sublayers));
        shared_ = depth_partial(ctx, done_, std::span(owner_.reads).subspan(index, last - index),
                                owner_.depth);
      }
    }
    if (shared_) return depth_merge(ctx, *shared_, index % block, partial_, owner_.depth);
    return read(ctx, index);
  }

  void output(const Context& ctx, int64_t index, Tensor y) override {
    BRAID_CHECK(index == next_++);
    partial_ = partial_.defined() ? add(ctx, partial_, y) : std::move(y);
  }

  Tensor finish(const Context& ctx) override {
    BRAID_CHECK(next_ == owner_.sublayers);
    return read(ctx, owner_.sublayers);
  }

 private:
  Tensor read(const Context& ctx, int64_t index) {
    std::vector<Tensor> sources = done_;
    if (partial_.defined()) sources.push_back(partial_);
    // A softmax over one source is that source, whatever the query.
    if (sources.size() == 1) return sources[0];
    const DepthQuery& q = owner_.reads[static_cast<size_t>(index)];
    return depth_softmax(ctx, sources, *q.query, *q.norm, owner_.depth);
  }

  const Attnres& owner_;
  bool two_phase_;
  int64_t next_ = 0;
  std::vector<Tensor> done_;  // embedding and closed blocks, [T, D] each
  Tensor partial_;            // running sum of the open block; undefined before its first output
  std::optional<DepthPartial> shared_;
};

class AttnresReference final : public ReferenceRun {
 public:
  AttnresReference(const Attnres& owner, ReferenceParams params, std::vector<double> embedding)
      : owner_(owner), params_(std::move(params)), done_({std::move(embedding)}) {}

  std::vector<double> input(int64_t index) override {
    if (index % owner_.config.block_sublayers == 0 && !partial_.empty()) {
      done_.push_back(std::move(partial_));
      partial_.clear();
    }
    return read(format("reads.{}.", index));
  }
  void output(int64_t, const std::vector<double>& y) override {
    if (partial_.empty()) partial_.assign(y.size(), 0.0);
    for (size_t i = 0; i < y.size(); ++i) partial_[i] += y[i];
  }
  std::vector<double> finish() override { return read("readout."); }

 private:
  std::vector<double> read(const std::string& path) const {
    std::vector<std::vector<double>> sources = done_;
    if (!partial_.empty()) sources.push_back(partial_);
    const std::vector<double>&query = params_[path + "query"], &norm = params_[path + "norm"];
    const auto width = static_cast<std::ptrdiff_t>(query.size());
    std::vector<double> h;
    for (auto t = std::ptrdiff_t{0}; t < std::ssize(done_[0]); t += width) {
      std::vector<std::vector<double>> token;
      for (const auto& s : sources) token.emplace_back(s.begin() + t, s.begin() + t + width);
      const std::vector<double> row =
          depth_softmax_ref(token, query.data(), norm.data(), owner_.depth.eps, owner_.depth.scale);
      h.insert(h.end(), row.begin(), row.end());
    }
    return h;
  }

  const Attnres& owner_;
  ReferenceParams params_;
  std::vector<std::vector<double>> done_;
  std::vector<double> partial_;
};

class AttnresResidual final : public Residual {
 public:
  explicit AttnresResidual(Attnres attnres) : attnres_(std::move(attnres)) {}
  std::unique_ptr<ResidualRun> begin(const Context& ctx, const Tensor& embedding) override {
    return std::make_unique<AttnresRun>(ctx, attnres_, embedding);
  }
  std::unique_ptr<ReferenceRun> reference(const ReferenceParams& params,
                                          std::vector<double> embedding) const override {
    return std::make_unique<AttnresReference>(attnres_, params, std::move(embedding));
  }
  Options options() const override { return write_options(attnres_.config); }

 private:
  Attnres attnres_;
};

}  // namespace

std::unique_ptr<Residual> make_attnres(const Options& options, const LayerEnv& env,
                                       int64_t sublayers, ParamBuilder& params) {
  Attnres a;
  a.config = read_options<AttnresConfig>("attnres", options);
  if (a.config.block_sublayers < 1) {
    throw Error(ErrorKind::kUsage, format("attnres: block_sublayers={} must be at least 1 (full)",
                                          a.config.block_sublayers));
  }
  a.depth = {env.norm_eps, a.config.scale};
  a.sublayers = sublayers;
  for (int64_t l = 0; l <= sublayers; ++l) {
    ParamBuilder read =
        params.scope(l < sublayers ? format("reads.{}", l) : std::string("readout"));
    Parameter& query = read.vector("query", {env.width}, Init::zeros());
    Parameter& norm = read.vector("norm", {env.width}, Init::ones());
    a.reads.push_back({&query, &norm});
  }
  return std::make_unique<AttnresResidual>(std::move(a));
}

}  // namespace braid

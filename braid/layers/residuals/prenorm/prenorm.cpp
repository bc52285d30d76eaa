#include "braid/layers/residual.h"
#include "braid/ops/elementwise.h"

namespace braid {
namespace {

struct PrenormConfig {
  double scale = 1;  // of what a sub-layer adds
  void visit(OptionVisitor& v) { v.field("scale", scale, 1.0); }
};

class PrenormRun final : public ResidualRun {
 public:
  PrenormRun(double scale, Tensor stream) : scale_(scale), stream_(std::move(stream)) {}
  Tensor input(const Context&, int64_t) override { return stream_; }
  void output(const Context& ctx, int64_t, Tensor y) override {
    y = scale(ctx, y, static_cast<float>(scale_));
    stream_ = add(ctx, stream_, y);
  }
  Tensor finish(const Context&) override { return std::move(stream_); }

 private:
  double scale_;
  Tensor stream_;
};

class PrenormReference final : public ReferenceRun {
 public:
  PrenormReference(double scale, std::vector<double> stream)
      : scale_(scale), stream_(std::move(stream)) {}
  std::vector<double> input(int64_t) override { return stream_; }
  void output(int64_t, const std::vector<double>& y) override {
    for (size_t i = 0; i < y.size(); ++i) stream_[i] += scale_ * y[i];
  }
  std::vector<double> finish() override { return stream_; }

 private:
  double scale_;
  std::vector<double> stream_;
};

class Prenorm final : public Residual {
 public:
  explicit Prenorm(const PrenormConfig& config) : config_(config) {}
  std::unique_ptr<ResidualRun> begin(const Context&, const Tensor& embedding) override {
    return std::make_unique<PrenormRun>(config_.scale, embedding);
  }
  std::unique_ptr<ReferenceRun> reference(const ReferenceParams&,
                                          std::vector<double> embedding) const override {
    return std::make_unique<PrenormReference>(config_.scale, std::move(embedding));
  }
  Options options() const override { return write_options(config_); }

 private:
  PrenormConfig config_;
};

}  // namespace

std::unique_ptr<Residual> make_prenorm(const Options& options, const LayerEnv&, int64_t,
                                       ParamBuilder&) {
  return std::make_unique<Prenorm>(read_options<PrenormConfig>("prenorm", options));
}

}  // namespace braid

#include "braid/layers/residual.h"
#include "braid/ops/elementwise.h"

namespace braid {
namespace {

struct PrenormConfig {
  void visit(OptionVisitor&) {}
};

class PrenormRun final : public ResidualRun {
 public:
  explicit PrenormRun(Tensor stream) : stream_(std::move(stream)) {}
  Tensor input(const Context&, int64_t) override { return stream_; }
  void output(const Context& ctx, int64_t, Tensor y) override { stream_ = add(ctx, stream_, y); }
  Tensor finish(const Context&) override { return std::move(stream_); }

 private:
  Tensor stream_;
};

class PrenormReference final : public ReferenceRun {
 public:
  explicit PrenormReference(std::vector<double> stream) : stream_(std::move(stream)) {}
  std::vector<double> input(int64_t) override { return stream_; }
  void output(int64_t, const std::vector<double>& y) override {
    for (size_t i = 0; i < y.size(); ++i) stream_[i] += y[i];
  }
  std::vector<double> finish() override { return stream_; }

 private:
  std::vector<double> stream_;
};

class Prenorm final : public Residual {
 public:
  std::unique_ptr<ResidualRun> begin(const Context&, const Tensor& embedding) override {
    return std::make_unique<PrenormRun>(embedding);
  }
  std::unique_ptr<ReferenceRun> reference(const ReferenceParams&,
                                          std::vector<double> embedding) const override {
    return std::make_unique<PrenormReference>(std::move(embedding));
  }
  Options options() const override { return {}; }
};

}  // namespace

std::unique_ptr<Residual> make_prenorm(const Options& options, const LayerEnv&, int64_t,
                                       ParamBuilder&) {
  read_options<PrenormConfig>("prenorm", options);
  return std::make_unique<Prenorm>();
}

}  // namespace braid

#include <utility>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/layers/residual.h"
#include "braid/ops/elementwise.h"

namespace braid {
namespace {

struct NormedConfig {
  std::string alpha = "1";  // one number or several, ':' between them
  std::string beta = "1";
  void visit(OptionVisitor& v) {
    v.field("alpha", alpha, "1");
    v.field("beta", beta, "1");
  }
};

std::vector<double> factors(const char* key, std::string_view text, int64_t sublayers) {
  std::vector<double> out;
  for (std::string_view rest = text; out.empty() || !rest.empty();) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const auto value = parse_real(rest.substr(0, end));
    if (!value || (end + 1 == rest.size())) {
      throw Error(ErrorKind::kUsage, format("normed: {}={} is no number, nor numbers with ':' "
                                            "between them",
                                            key, printable(text)));
    }
    out.push_back(*value);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (std::ssize(out) > sublayers) {
    throw Error(ErrorKind::kUsage,
                format("normed: {} has {} values for {} sub-layers", key, out.size(), sublayers));
  }
  return out;
}

struct Factors {
  std::vector<double> alpha, beta;
};

double factor(const std::vector<double>& values, int64_t index) {
  return values[static_cast<size_t>(index % std::ssize(values))];
}

Tensor scaled(const Context& ctx, const Tensor& x, double by) {
  return scale(ctx, x, static_cast<float>(by));
}

class NormedRun final : public ResidualRun {
 public:
  NormedRun(const Factors& factors, Tensor stream)
      : factors_(factors), stream_(std::move(stream)) {}
  Tensor input(const Context&, int64_t) override { return stream_; }
  void normed(const Context&, int64_t, const Tensor& n) override { stream_ = n; }
  void output(const Context& ctx, int64_t index, Tensor y) override {
    stream_ = add(ctx, scaled(ctx, stream_, factor(factors_.alpha, index)),
                  scaled(ctx, y, factor(factors_.beta, index)));
  }
  Tensor finish(const Context&) override { return std::move(stream_); }

 private:
  const Factors& factors_;
  Tensor stream_;
};

class NormedReference final : public ReferenceRun {
 public:
  NormedReference(const Factors& factors, std::vector<double> stream)
      : factors_(factors), stream_(std::move(stream)) {}
  std::vector<double> input(int64_t) override { return stream_; }
  void normed(int64_t, const std::vector<double>& n) override { stream_ = n; }
  void output(int64_t index, const std::vector<double>& y) override {
    const double alpha = factor(factors_.alpha, index), beta = factor(factors_.beta, index);
    for (size_t i = 0; i < y.size(); ++i) stream_[i] = alpha * stream_[i] + beta * y[i];
  }
  std::vector<double> finish() override { return stream_; }

 private:
  const Factors& factors_;
  std::vector<double> stream_;
};

class Normed final : public Residual {
 public:
  Normed(NormedConfig config, Factors factors)
      : config_(std::move(config)), factors_(std::move(factors)) {}
  std::unique_ptr<ResidualRun> begin(const Context&, const Tensor& embedding) override {
    return std::make_unique<NormedRun>(factors_, embedding);
  }
  std::unique_ptr<ReferenceRun> reference(const ReferenceParams&,
                                          std::vector<double> embedding) const override {
    return std::make_unique<NormedReference>(factors_, std::move(embedding));
  }
  bool takes_normed() const override { return true; }
  Options options() const override { return write_options(config_); }

 private:
  NormedConfig config_;
  Factors factors_;
};

}  // namespace

std::unique_ptr<Residual> make_normed(const Options& options, const LayerEnv&, int64_t sublayers,
                                      ParamBuilder&) {
  const auto config = read_options<NormedConfig>("normed", options);
  Factors values{factors("alpha", config.alpha, sublayers),
                 factors("beta", config.beta, sublayers)};
  return std::make_unique<Normed>(config, std::move(values));
}

}  // namespace braid

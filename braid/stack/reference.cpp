#include "braid/stack/reference.h"

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/ops/norm_ref.h"

namespace braid {
namespace {

using Values = std::vector<double>;

// The parameters whose names begin with `scope`, under the rest of their names.
ReferenceParams within(const ReferenceParams& params, const std::string& scope) {
  ReferenceParams own;
  own.links = params.links;
  for (auto p = params.values.lower_bound(scope); p != params.values.end(); ++p) {
    if (!p->first.starts_with(scope)) break;
    own.values.emplace(p->first.substr(scope.size()), p->second);
  }
  return own;
}

// The norm of that name; x itself when the model has none there.
Values normed(const ModelSettings& s, const ReferenceParams& params, const std::string& name,
              const Values& x) {
  if (params.values.find(name + ".weight") == params.values.end()) return x;
  const Values& weight = params[name + ".weight"];
  if (s.norm == NormKind::kLayer) {
    return layer_norm_ref<double>(x, weight, params[name + ".bias"], s.norm_eps);
  }
  return rms_norm_ref<double>(x, weight, s.norm == NormKind::kRms1p ? 1 : 0, s.norm_eps);
}

// Rows of the meta tokens, then those of the ids.
Values embedded(const ModelSettings& s, const ReferenceParams& params,
                std::span<const int32_t> ids) {
  Values x;
  if (s.meta_tokens > 0) x = params["meta_tokens.weight"];
  for (size_t t = 0; t < ids.size(); ++t) {
    for (int64_t i = 0; i < s.width; ++i) {
      double v = s.embedding_scale *
                 params["embed_tokens.weight"][static_cast<size_t>(ids[t] * s.width + i)];
      if (s.positions > 0) {
        v += params["embed_positions.weight"]
                   [t * static_cast<size_t>(s.width) + static_cast<size_t>(i)];
      }
      x.push_back(v);
    }
  }
  return normed(s, params, "embed_norm", x);
}

}  // namespace

ReferenceParams reference_params(const Context& ctx, const Model& model) {
  ReferenceParams out;
  for (const Parameter& p : model.parameters()) {
    const Tensor value = dense_value(ctx, p);
    out.values.emplace(p.name, Values(value.data(), value.data() + value.count()));
  }
  return out;
}

std::vector<double> reference_logits(const Model& model, const ReferenceParams& given,
                                     std::span<const int32_t> ids) {
  ReferenceParams params = given;
  ReferenceLinks links;
  params.links = &links;
  const ModelSettings& s = model.settings();
  const std::vector<Model::SubLayer> layers = model.sublayers();
  const auto run =
      model.residual().reference(within(params, "residual."), embedded(s, params, ids));
  for (size_t step = 0; step < model.flat().steps.size(); ++step) {
    const int64_t index = static_cast<int64_t>(step);
    const Model::SubLayer& sub = layers[static_cast<size_t>(model.flat().steps[step].layer)];
    const Values x = normed(s, params, sub.path + "norm", run->input(index));
    run->normed(index, x);
    const Values y =
        sub.layer->reference(within(params, sub.scope), x, s.meta_tokens + std::ssize(ids));
    run->output(index, normed(s, params, sub.path + "post_norm", y));
  }
  const Values h = normed(s, params, "norm", run->finish());
  const Values& head = params[s.tie_embeddings ? "embed_tokens.weight" : "lm_head.weight"];
  Values logits;
  for (size_t t = static_cast<size_t>(s.meta_tokens * s.width); t < h.size();
       t += static_cast<size_t>(s.width)) {
    for (size_t row = 0; row < head.size(); row += static_cast<size_t>(s.width)) {
      double z = 0;
      for (size_t i = 0; i < static_cast<size_t>(s.width); ++i) z += h[t + i] * head[row + i];
      z *= s.logit_scale;
      logits.push_back(s.logit_softcap > 0 ? s.logit_softcap * std::tanh(z / s.logit_softcap) : z);
    }
  }
  return logits;
}

double reference_loss(const Model& model, const ReferenceParams& params,
                      std::span<const int32_t> ids) {
  const Values logits = reference_logits(model, params, ids.first(ids.size() - 1));
  const size_t vocab = static_cast<size_t>(model.settings().vocab);
  double loss = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>(t * vocab);
    const double top = *std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab));
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(logits[t * vocab + v] - top);
    loss += top + std::log(sum) - logits[t * vocab + static_cast<size_t>(ids[t + 1])];
  }
  return loss / static_cast<double>(ids.size() - 1);
}

}  // namespace braid

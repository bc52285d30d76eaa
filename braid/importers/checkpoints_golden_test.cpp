// Every folder of $BRAID_GOLDEN/checkpoints (README there): a whole tiny checkpoint as published,
// with the logits, the greedy continuation and the router's choices that its reference gives.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/formats/safetensors.h"
#include "braid/importers/load.h"
#include "braid/ops/bias.h"
#include "braid/ops/linear.h"
#include "braid/ops/moe_router.h"
#include "braid/testing/golden.h"

namespace braid::testing {
namespace {

constexpr double kTolerance = 1e-4;  // README: f32 against f64

// Feeds ids in pieces; [T, vocab].
std::vector<float> logits_in_pieces(const Context& ctx, Model& model,
                                    const std::vector<int32_t>& ids,
                                    const std::vector<int64_t>& pieces, SequenceState& sequence) {
  std::vector<float> out;
  SequenceState* const one[] = {&sequence};
  size_t at = 0;
  for (const int64_t n : pieces) {
    Batch batch;
    batch.seq_starts = {0, n};
    batch.offsets = {std::ssize(sequence.tokens)};
    const Tensor h =
        model.hidden(ctx, std::span(ids).subspan(at, static_cast<size_t>(n)), batch, one);
    const Tensor logits = model.logits(ctx, h);
    out.insert(out.end(), logits.data(), logits.data() + logits.count());
    at += static_cast<size_t>(n);
  }
  REQUIRE(at == ids.size());
  return out;
}

// NaN counts as infinitely far.
double furthest(const std::vector<float>& a, const float* b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = std::isnan(d) ? INFINITY : d;
  }
  return worst;
}

int32_t best(const float* row, int64_t vocab) {
  return static_cast<int32_t>(std::max_element(row, row + vocab) - row);
}

// The first `sublayers` of a loaded model, with `norm` as its final norm (null: weights of one).
struct Truncated {
  std::unique_ptr<Model> model;

  Truncated(const Context& ctx, Model& whole, int64_t sublayers, const Parameter* norm) {
    ModelSettings s = whole.settings();
    const FlatStack& flat = whole.flat();
    s.stack.items.clear();
    for (int64_t i = 0; i < sublayers; ++i) {
      StackItem item;
      const FlatStack::Leaf& leaf =
          flat.leaves[static_cast<size_t>(flat.layers[static_cast<size_t>(i)])];
      item.layers = leaf.layers;
      item.join = leaf.join;
      s.stack.items.push_back(item);
    }
    model = std::make_unique<Model>(ctx, s);
    for (Parameter& p : model->parameters()) {
      Parameter* from = whole.parameters().find(p.name);
      REQUIRE(from != nullptr);
      if (p.name != "norm.weight") {
        p.value = from->value;
      } else if (norm != nullptr) {
        p.value = norm->value;
      } else {
        p.value = Tensor::full(ctx, p.value.shape(), s.norm == NormKind::kRms1p ? 0.0f : 1.0f);
      }
    }
  }
};

struct Golden {
  std::string folder;
  Context ctx;
  SafetensorsFile expected;
  LoadedModel loaded;
  std::vector<int32_t> ids;
  int64_t vocab;

  explicit Golden(const std::string& path)
      : folder(path),
        expected(SafetensorsFile::open(join_path(path, "expected.safetensors"))),
        loaded(load_model(ctx, path, {.weights = WeightType::kF32})),
        vocab(loaded.model->settings().vocab) {
    for (const int64_t id : expected.to_i64("input_ids")) ids.push_back(static_cast<int32_t>(id));
  }
  Model& model() { return *loaded.model; }
  std::vector<float> run(const std::vector<int64_t>& pieces) {
    SequenceState sequence = model().new_sequence(ctx);
    return logits_in_pieces(ctx, model(), ids, pieces, sequence);
  }
};

// Which layer leaves the reference: the residual stream behind each, up to its norm.
void say_where(Golden& g) {
  const double eps = g.model().settings().norm_eps;
  for (int64_t k = 0;; ++k) {
    const std::string name = format("hidden_states.{}", k);
    if (g.expected.find(name) == nullptr || 2 * k > g.model().executed()) return;
    if (k == 0) continue;  // no stack is empty
    Truncated part(g.ctx, g.model(), 2 * k, nullptr);
    const Tensor h = part.model->hidden(g.ctx, g.ids, Batch::uniform(1, std::ssize(g.ids)));
    const Tensor want = g.expected.to_f32(g.ctx, name);
    const int64_t width = want.size(1);
    double worst = 0;
    for (int64_t t = 0; t < want.size(0); ++t) {
      const float* row = want.data() + t * width;
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(row[i]) * row[i];
      const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + eps);
      for (int64_t i = 0; i < width; ++i)
        worst = std::max(worst, std::abs(row[i] * scale - h.data()[t * width + i]));
    }
    MESSAGE(format("{}: behind layer {} the normed residual differs by {:.3g}", g.folder, k - 1,
                   worst));
  }
}

void check_logits(Golden& g) {
  const Tensor want = g.expected.to_f32(g.ctx, "logits");
  const int64_t n = std::ssize(g.ids);
  REQUIRE(want.count() == n * g.vocab);
  const double whole = furthest(g.run({n}), want.data());
  CHECK_MESSAGE(whole <= kTolerance, g.folder, ": logits differ by ", whole);
  if (!(whole <= kTolerance)) return say_where(g);
  const Tensor fresh =
      g.model().logits(g.ctx, g.model().hidden(g.ctx, g.ids, Batch::uniform(1, n)));
  const std::vector<float> stateless(fresh.data(), fresh.data() + fresh.count());
  CHECK_MESSAGE(furthest(stateless, want.data()) <= kTolerance, g.folder, ": without states");
  for (int64_t cut = 0; cut < n; ++cut) {
    std::vector<int64_t> pieces(static_cast<size_t>(n - cut), 1);
    if (cut > 0) pieces.insert(pieces.begin(), cut);
    const double stepped = furthest(g.run(pieces), want.data());
    CHECK_MESSAGE(stepped <= kTolerance, g.folder, ": prefill of ", cut, " and steps: ", stepped);
  }
  for (int64_t cut = 1; cut < n; ++cut)
    CHECK_MESSAGE(furthest(g.run({cut, n - cut}), want.data()) <= kTolerance, g.folder, ": cut at ",
                  cut);
}

void check_greedy(Golden& g) {
  const std::vector<int64_t> want = g.expected.to_i64("greedy_ids");
  SequenceState sequence = g.model().new_sequence(g.ctx);
  std::vector<float> logits =
      logits_in_pieces(g.ctx, g.model(), g.ids, {std::ssize(g.ids)}, sequence);
  std::vector<int64_t> got;
  while (got.size() < want.size()) {
    got.push_back(best(logits.data() + (std::ssize(logits) - g.vocab), g.vocab));
    logits = logits_in_pieces(g.ctx, g.model(), {static_cast<int32_t>(got.back())}, {1}, sequence);
  }
  CHECK_MESSAGE(got == want, g.folder, ": greedy continuation");
}

// A router's choices on what its layer reads: the model up to there, with that layer's norm last.
void check_router(Golden& g, int64_t layer) {
  Model& m = g.model();
  const std::string slot = format("layers.{}.", 2 * layer + 1);
  Truncated part(g.ctx, m, 2 * layer + 1, m.parameters().find(slot + "norm.weight"));
  const Tensor x = part.model->hidden(g.ctx, g.ids, Batch::uniform(1, std::ssize(g.ids)));
  RouterConfig router;
  router.top_k = 2;  // the layer's default
  std::string kind = "softmax";
  const Options options = m.sublayers()[static_cast<size_t>(2 * layer + 1)].layer->options();
  for (const Options::Item& o : options.items()) {
    if (o.key == "router") kind = o.value;
    if (o.key == "top_k") router.top_k = *parse_int(o.value);
    if (o.key == "renormalise") router.renormalise = *parse_bool(o.value);
    if (o.key == "scale") router.scale = *parse_real(o.value);
    if (o.key == "groups") router.groups = *parse_int(o.value);
    if (o.key == "topk_groups") router.topk_groups = *parse_int(o.value);
  }
  router.sigmoid = kind == "sigmoid";
  Tensor scores = linear(g.ctx, x, *m.parameters().find(slot + "moe.gate.weight"));
  if (Parameter* bias = m.parameters().find(slot + "moe.gate.bias"))
    scores = add_bias(g.ctx, scores, *bias);
  const Routing got =
      route(g.ctx, scores, m.parameters().find(slot + "moe.gate.e_score_correction_bias"), router);
  const std::vector<int64_t> want = g.expected.to_i64(format("router.{}.experts", layer));
  const Tensor weights = g.expected.to_f32(g.ctx, format("router.{}.weights", layer));
  const int64_t k = router.top_k;
  REQUIRE(std::ssize(want) == std::ssize(g.ids) * k);
  for (int64_t t = 0; t < std::ssize(g.ids); ++t) {
    std::vector<std::pair<int64_t, float>> chosen;
    for (int64_t i = t * k; i < (t + 1) * k; ++i)
      chosen.emplace_back(got.experts.data<int32_t>()[i], got.weights.data()[i]);
    std::sort(chosen.begin(), chosen.end());
    for (int64_t i = 0; i < k; ++i) {
      const auto [expert, weight] = chosen[static_cast<size_t>(i)];
      CHECK_MESSAGE(expert == want[static_cast<size_t>(t * k + i)], g.folder, ": layer ", layer,
                    ", token ", t);
      CHECK_MESSAGE(std::abs(weight - weights.data()[t * k + i]) <= kTolerance, g.folder,
                    ": layer ", layer, ", token ", t);
    }
  }
}

TEST_CASE("published checkpoints give the logits, continuations and choices of their reference") {
  const std::vector<std::string> folders = golden_folders("checkpoints", "expected.safetensors");
  CHECK(!folders.empty());
  for (const std::string& folder : folders) {
    INFO(folder);
    try {
      Golden g(folder);
      check_logits(g);
      check_greedy(g);
      for (int64_t layer = 0; layer * 2 < g.model().executed(); ++layer) {
        if (g.expected.find(format("router.{}.experts", layer)) != nullptr) check_router(g, layer);
      }
    } catch (const Error& e) {
      FAIL_CHECK((folder + ": " + e.what()));
    }
  }
}

}  // namespace
}  // namespace braid::testing

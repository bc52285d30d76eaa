// Every attnres_* file of $BRAID_GOLDEN/depth (README there): forward and all gradients.

#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "braid/base/format.h"
#include "braid/formats/safetensors.h"
#include "braid/layers/residual.h"
#include "braid/ops/depth.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::worst_error;

constexpr double kForward = 1e-5;        // golden README: growing sources and stacks
constexpr double kGradient = 2e-5;       // sums over tokens and depth
constexpr double kQueryGradient = 2e-4;  // the logits' gradients cancel over the sources

struct Golden {
  Context ctx;
  SafetensorsFile file;

  Tensor tensor(const std::string& name) const { return file.to_f32(ctx, name); }
  double number(const char* key) const { return std::stod(file.metadata(key)); }
  int64_t count(const char* key) const { return std::stoll(file.metadata(key)); }
  Parameter parameter(const std::string& name) const {
    Tensor value = tensor("w." + name);
    Tensor grad = Tensor::zeros(ctx, value.shape());
    return {name, ParamRole::kVector, std::move(value), std::move(grad), {}};
  }
  void check(const std::string& name, const Tensor& got, double tolerance) const {
    const double error = worst_error(got, tensor(name));
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  }
};

void set_row(const Tensor& into, const Tensor& from, int64_t row) {
  std::memcpy(into.data(), from.data() + row * into.count(), into.bytes());
}

void run_op(const Golden& g) {
  Parameter query = g.parameter("query"), norm = g.parameter("norm");
  const Tensor v = g.tensor("in.v");
  Tape tape;
  Context train = g.ctx;
  train.tape = &tape;
  std::vector<Tensor> sources;
  for (int64_t s = 0; s < v.size(0); ++s) {
    sources.push_back(v.select(0, s));
    tape.watch(sources.back());
  }
  const Tensor h = depth_softmax(train, sources, query, norm, {g.number("eps"), g.number("scale")});
  g.check("out.h", h, kForward);
  tape.backward(g.ctx, h, g.tensor("up.h"));
  const Tensor dv = Tensor::empty(g.ctx, v.shape());
  for (int64_t s = 0; s < v.size(0); ++s) {
    const Tensor d = tape.grad(sources[static_cast<size_t>(s)]);
    REQUIRE(d.defined());
    std::memcpy(dv.data() + s * d.count(), d.data(), d.bytes());
  }
  g.check("grad.v", dv, kGradient);
  g.check("grad.query", query.grad, kQueryGradient);
  g.check("grad.norm", norm.grad, kQueryGradient);
}

// The toy sub-layer of the stack files.
struct SubLayer {
  Parameter ln, w1, w2;
  Tensor forward(const Context& ctx, const Tensor& h, double eps) {
    return linear(ctx, silu(ctx, linear(ctx, rms_norm(ctx, h, ln, eps), w1)), w2);
  }
};

void run_stack(const Golden& g, bool recorded) {
  const int64_t depth = g.count("L"), width = g.count("D"), ffn = g.count("F");
  const double eps = g.number("eps");
  Options options;
  if (g.count("block_sublayers") != 1) {
    options.set("block_sublayers", g.file.metadata("block_sublayers"));
  }
  LayerEnv env;
  env.width = width;
  env.norm_eps = eps;
  ParameterSet set;
  ParamBuilder params(g.ctx, set, 1);
  const auto residual = find_residual("attnres")->make(options, env, depth, params);
  set.allocate_grads(g.ctx);
  REQUIRE(set.size() == 2 * static_cast<size_t>(depth + 1));
  const auto read_name = [&](int64_t l, const char* name) {
    return (l < depth ? format("reads.{}", l) : std::string("readout")) + "." + name;
  };
  const char* const kVectors[] = {"query", "norm"};
  for (int64_t l = 0; l <= depth; ++l) {
    for (const char* name : kVectors) {
      set_row(set.find(read_name(l, name))->value, g.tensor(std::string("w.") + name), l);
    }
  }
  const auto parameter = [&](const char* name, Shape shape, int64_t l) {
    Parameter p{
        name, ParamRole::kMatrix, Tensor::empty(g.ctx, shape), Tensor::zeros(g.ctx, shape), {}};
    set_row(p.value, g.tensor(std::string("w.") + name), l);
    return p;
  };
  std::vector<SubLayer> layers;
  for (int64_t l = 0; l < depth; ++l) {
    layers.push_back({parameter("ln", {width}, l), parameter("w1", {ffn, width}, l),
                      parameter("w2", {width, ffn}, l)});
  }
  Tape tape;
  Context ctx = g.ctx;
  if (recorded) ctx.tape = &tape;
  Tensor embedding = g.tensor("in.emb");
  const int64_t tokens = embedding.size(0);
  if (!recorded) {
    // Long enough for reads in two phases where a file has the sources for it.
    Tensor longer = Tensor::empty(g.ctx, {tokens * 64, width});
    for (int64_t i = 0; i < 64; ++i) {
      std::memcpy(longer.data() + i * embedding.count(), embedding.data(), embedding.bytes());
    }
    embedding = longer;
  } else {
    tape.watch(embedding);
  }
  const auto run = residual->begin(ctx, embedding);
  const Tensor inputs = Tensor::empty(g.ctx, {depth, tokens, width});
  for (int64_t l = 0; l < depth; ++l) {
    const Tensor h = run->input(ctx, l);
    std::memcpy(inputs.data() + l * tokens * width, h.data(),
                static_cast<size_t>(tokens * width) * sizeof(float));
    run->output(ctx, l, layers[static_cast<size_t>(l)].forward(ctx, h, eps));
  }
  const Tensor x = run->finish(ctx);
  g.check("aux.h", inputs, kForward);
  g.check("out.x", x.narrow(0, 0, tokens), kForward);
  if (!recorded) return;

  tape.backward(g.ctx, x, g.tensor("up.x"));
  g.check("grad.emb", tape.grad(embedding), kGradient);
  const auto stacked = [&](int64_t rows, Shape shape, const auto& row) {
    Tensor all = Tensor::empty(g.ctx, shape);
    for (int64_t l = 0; l < rows; ++l) {
      const Tensor& from = row(l);
      std::memcpy(all.data() + l * from.count(), from.data(), from.bytes());
    }
    return all;
  };
  for (const char* name : kVectors) {
    const Tensor all = stacked(depth + 1, {depth + 1, width}, [&](int64_t l) -> const Tensor& {
      return set.find(read_name(l, name))->grad;
    });
    g.check(std::string("grad.") + name, all, kQueryGradient);
  }
  g.check(
      "grad.ln",
      stacked(depth, {depth, width}, [&](int64_t l) -> const Tensor& { return layers[l].ln.grad; }),
      kGradient);
  g.check("grad.w1",
          stacked(depth, {depth, ffn, width},
                  [&](int64_t l) -> const Tensor& { return layers[l].w1.grad; }),
          kGradient);
  g.check("grad.w2",
          stacked(depth, {depth, width, ffn},
                  [&](int64_t l) -> const Tensor& { return layers[l].w2.grad; }),
          kGradient);
}

void run_two_phase(const Golden& g) {
  const Tensor v = g.tensor("in.v"), y = g.tensor("in.y");
  const Tensor query = g.tensor("w.query"), norm = g.tensor("w.norm");
  const DepthConfig config{g.number("eps"), 1};
  std::vector<Tensor> sources;
  for (int64_t s = 0; s < v.size(0); ++s) sources.push_back(v.select(0, s));
  std::vector<Parameter> queries, norms;
  for (int64_t i = 0; i < query.size(0); ++i) {
    queries.push_back({"query", ParamRole::kVector, query.select(0, i), {}, {}});
    norms.push_back({"norm", ParamRole::kVector, norm.select(0, i), {}, {}});
  }
  std::vector<DepthQuery> reads;
  for (size_t i = 0; i < queries.size(); ++i) reads.push_back({&queries[i], &norms[i]});
  const DepthPartial partial = depth_partial(g.ctx, sources, reads, config);
  g.check("aux.m", partial.m, kForward);
  g.check("aux.z", partial.z, kForward);
  g.check("aux.u", partial.sum, kForward);
  const Tensor out = Tensor::empty(g.ctx, y.shape());
  Tensor sum;
  for (int64_t i = 0; i < query.size(0); ++i) {
    const Tensor h = depth_merge(g.ctx, partial, i, sum, config);
    std::memcpy(out.data() + i * h.count(), h.data(), h.bytes());
    sum = sum.defined() ? add(g.ctx, sum, y.select(0, i)) : y.select(0, i);
  }
  g.check("out.h", out, kForward);
}

}  // namespace

TEST_CASE("golden: attention residuals") {
  // Run by the tests of their own folders, or not yet covered by braid.
  const std::set<std::string> elsewhere = {"lm_loss", "muon"};
  const std::set<std::string> later = {"mhc_sinkhorn", "mhc_layer",     "hc_layer",    "engram",
                                       "engram_hash",  "titans_memory", "ttt_linear",  "hnet_chunk",
                                       "llada_loss",   "llada_step",    "rl_losses",   "bitlinear",
                                       "bit_ties",     "nextlat",       "looplm_exit", "qk_clip"};
  int ran = 0;
  for (const std::string& path : testing::golden_files("depth")) {
    INFO(path);
    const Golden g{Context{}, SafetensorsFile::open(path)};
    const std::string& kind = g.file.metadata("kind");
    if (kind == "attnres_op") {
      run_op(g);
    } else if (kind == "attnres_stack") {
      run_stack(g, true);
      run_stack(g, false);
    } else if (kind == "attnres_two_phase") {
      run_two_phase(g);
    } else if (later.count(kind) > 0) {
      MESSAGE("not run: ", path, " (", kind, ")");
      continue;
    } else if (elsewhere.count(kind) > 0) {
      continue;
    } else {
      FAIL_CHECK("no test runs files of kind ", kind);
    }
    ++ran;
  }
  MESSAGE(ran, " attnres files ran");
  CHECK(ran > 0);
}

}  // namespace braid

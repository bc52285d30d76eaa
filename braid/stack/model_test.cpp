#include "braid/stack/model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "braid/base/rng.h"
#include "braid/ops/tape.h"
#include "braid/stack/reference.h"
#include "braid/state/group_state.h"

namespace braid {
namespace {

ModelSettings tiny(const char* stack, const char* residual = "prenorm") {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  s.vocab = 40;
  s.residual = parse_named(residual, "residual");
  return s;
}

std::vector<int32_t> some_ids(int64_t n) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>((i * i * 7 + i) % 40));
  return ids;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.count() == b.count());
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < a.count(); ++i) {
    REQUIRE(std::isfinite(a.data()[i]));
    worst = std::max<double>(worst, std::abs(a.data()[i] - b.data()[i]));
    largest = std::max<double>(largest, std::abs(b.data()[i]));
  }
  return worst / largest;
}

}  // namespace

TEST_CASE("prefill and single steps with states give what one pass gives") {
  Context ctx;
  for (const char* residual : {"prenorm", "attnres{block_sublayers=2}"}) {
    Model model(ctx, tiny("2 x (kda, swiglu), gqa, swiglu, loop 2 x (gdn, moe{experts=4,top_k=2})",
                          residual));
    const std::vector<int32_t> ids = some_ids(37);
    const Tensor whole = model.hidden(ctx, ids, Batch::uniform(1, 37));
    SequenceState seq = model.new_sequence(ctx);
    SequenceState* const one[] = {&seq};
    Tensor last;
    int64_t at = 0;
    for (const int64_t n : {20, 1, 1, 15}) {
      Batch b;
      b.seq_starts = {0, n};
      b.offsets = {at};
      last = model.hidden(
          ctx, std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n)), b, one);
      CHECK(largest_difference(last, whole.narrow(0, at, n)) < 2e-5);
      at += n;
    }
    CHECK(seq.tokens == ids);
    CHECK(seq.layers.size() == 10);
  }
}

TEST_CASE("norm placement, scales, positions and softcap: steps give what one pass gives") {
  Context ctx;
  struct Case {
    NormKind norm;
    NormPlacement placement;
    const char* residual;
  };
  for (const Case& c : {Case{NormKind::kLayer, NormPlacement::kPre, "prenorm"},
                        Case{NormKind::kRms, NormPlacement::kPost, "prenorm"},
                        Case{NormKind::kRms1p, NormPlacement::kSandwich, "attnres"},
                        Case{NormKind::kRms, NormPlacement::kPre, "normed{alpha=2:3,beta=0.5}"}}) {
    ModelSettings s = tiny("2 x (gqa, swiglu), kda | gqa", c.residual);
    s.norm = c.norm;
    s.norm_placement = c.placement;
    s.embedding_scale = 4;
    s.embedding_norm = c.norm == NormKind::kLayer;
    s.positions = 37;
    s.logit_scale = 3;
    s.logit_softcap = 2;
    Model model(ctx, s);
    const ParameterSet& p = model.parameters();
    const auto has = [&](const char* name) {
      return const_cast<ParameterSet&>(p).find(name) != nullptr;
    };
    CHECK(has("layers.1.norm.weight") == (c.placement != NormPlacement::kPost));
    CHECK(has("layers.1.post_norm.weight") == (c.placement != NormPlacement::kPre));
    CHECK(has("layers.1.norm.bias") == (c.norm == NormKind::kLayer));
    CHECK(has("norm.weight"));
    CHECK(has("embed_norm.bias") == (c.norm == NormKind::kLayer));
    const std::vector<int32_t> ids = some_ids(37);
    const Tensor whole = model.logits(ctx, model.hidden(ctx, ids, Batch::uniform(1, 37)));
    SequenceState seq = model.new_sequence(ctx);
    SequenceState* const one[] = {&seq};
    int64_t at = 0;
    for (const int64_t n : {20, 1, 1, 15}) {
      Batch b;
      b.seq_starts = {0, n};
      b.offsets = {at};
      const std::span<const int32_t> part =
          std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n));
      const Tensor z = model.logits(ctx, model.hidden(ctx, part, b, one));
      CHECK(largest_difference(z, whole.narrow(0, at, n)) < 2e-5);
      at += n;
    }
    Batch b;
    b.seq_starts = {0, 1};
    b.offsets = {37};
    CHECK_THROWS_WITH_AS(model.hidden(ctx, std::span(ids).first(1), b, one),
                         "a sequence of 38 tokens is longer than the 37 learned positions", Error);
  }
}

TEST_CASE("a residual of normed values needs a norm before the layers") {
  Context ctx;
  ModelSettings s = tiny("gqa, swiglu", "normed");
  s.norm_placement = NormPlacement::kPost;
  CHECK_THROWS_WITH_AS(Model(ctx, s),
                       "residual = \"normed\" keeps what the norm before a layer gives, and "
                       "norm_placement = \"post\" has none; use \"pre\" or \"sandwich\"",
                       Error);
  CHECK_THROWS_WITH_AS(Model(ctx, tiny("gqa, swiglu", "normed{alpha=1:2:3}")),
                       "normed: alpha has 3 values for 2 sub-layers", Error);
  for (const char* bad : {"1:", ":1", "1::2", "x"}) {
    ModelSettings t = tiny("gqa, swiglu");
    t.residual.name = "normed";
    t.residual.options.set("beta", bad);
    CHECK_THROWS_WITH_AS(
        Model(ctx, t), doctest::Contains("is no number, nor numbers with ':' between them"), Error);
  }
}

TEST_CASE("logits and all gradients of the loss equal those of the definitions") {
  Context ctx;
  std::vector<ModelSettings> cases(6,
                                   tiny("gqa, mlp{bias=true}, loop 2 x (gqa, swiglu), gqa | kda"));
  cases[0].norm = NormKind::kLayer;
  cases[0].positions = 12;
  cases[0].embedding_norm = true;
  cases[1].norm_placement = NormPlacement::kPost;
  cases[1].tie_embeddings = false;
  cases[1].logit_softcap = 1.5;
  cases[2].norm = NormKind::kRms1p;
  cases[2].norm_placement = NormPlacement::kSandwich;
  cases[2].embedding_scale = 5.5;
  cases[2].embedding_norm = true;
  cases[3].residual = parse_named("normed{alpha=2:0.5,beta=1:0.7:3}", "residual");
  cases[3].logit_scale = 2.5;
  cases[3].logit_softcap = 2;
  cases[4].residual = parse_named("attnres{block_sublayers=2}", "residual");
  cases[5].residual = parse_named("normed{alpha=1.5}", "residual");
  cases[5].norm_placement = NormPlacement::kSandwich;
  cases[5].norm = NormKind::kLayer;
  for (ModelSettings& s : cases) {
    CAPTURE(print_settings(s));
    s.init = parse_named("normal{std=0.3}", "init");
    Model model(ctx, s);
    for (Parameter& p : model.parameters()) {
      const Rng rng(3, p.name);
      for (int64_t i = 0; p.role == ParamRole::kVector && i < p.value.count(); ++i) {
        p.value.data()[i] += static_cast<float>(0.2 * rng.normal(static_cast<uint64_t>(i)));
      }
    }
    const std::vector<int32_t> ids = some_ids(13);
    const std::span<const int32_t> inputs = std::span(ids).first(12);
    ReferenceParams params = reference_params(ctx, model);
    const Tensor logits = model.logits(ctx, model.hidden(ctx, inputs, Batch::uniform(1, 12)));
    const std::vector<double> want = reference_logits(model, params, inputs);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      REQUIRE(std::isfinite(logits.data()[i]));
      worst = std::max(worst, std::abs(want[i] - logits.data()[i]));
      largest = std::max(largest, std::abs(want[i]));
    }
    CHECK(worst <= 2e-5 * largest);

    model.parameters().allocate_grads(ctx);
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    const LossResult loss =
        model.loss(train, inputs, std::span(ids).last(12), Batch::uniform(1, 12));
    CHECK(loss.loss.data()[0] == doctest::Approx(reference_loss(model, params, ids)).epsilon(1e-6));
    tape.backward(ctx, loss.loss);
    for (const Parameter& p : model.parameters()) {
      CAPTURE(p.name);
      std::vector<double>& at = params.values.find(p.name)->second;
      double got = 0, size = 0;
      const Rng rng(5, p.name);
      for (size_t i = 0; i < at.size(); ++i) {
        got += rng.normal(i) * p.grad.data()[i];
        size += double{p.grad.data()[i]} * p.grad.data()[i];
      }
      const auto along = [&](double h) {
        for (size_t i = 0; i < at.size(); ++i) at[i] += h * rng.normal(i);
        const double value = reference_loss(model, params, ids);
        for (size_t i = 0; i < at.size(); ++i) at[i] -= h * rng.normal(i);
        return value;
      };
      const double slope = (along(1e-5) - along(-1e-5)) / 2e-5;
      CHECK(std::abs(slope - got) <= 2e-4 * std::max(std::abs(slope), std::sqrt(size)));
    }
  }
}

TEST_CASE("recomputation changes no bit of the gradients") {
  Context ctx;
  std::vector<ModelSettings> cases = {tiny("kda, swiglu, gqa, swiglu", "attnres"),
                                      tiny("kda, swiglu, gqa, swiglu", "normed{alpha=2}"),
                                      tiny("kda, swiglu, gqa, swiglu")};
  cases[1].norm_placement = cases[2].norm_placement = NormPlacement::kSandwich;
  cases[2].norm = NormKind::kLayer;
  for (const ModelSettings& s : cases) {
    Model model(ctx, s);
    model.parameters().allocate_grads(ctx);
    const std::vector<int32_t> ids = some_ids(33);
    const auto grads = [&](bool recompute) {
      model.set_recompute(recompute);
      model.parameters().zero_grads(ctx);
      Tape tape;
      Context train = ctx;
      train.tape = &tape;
      const LossResult loss = model.loss(train, std::span(ids).first(32), std::span(ids).last(32),
                                         Batch::uniform(2, 16));
      tape.backward(ctx, loss.loss);
      std::vector<float> all;
      for (const Parameter& p : model.parameters()) {
        if (p.grad.defined()) all.insert(all.end(), p.grad.data(), p.grad.data() + p.grad.count());
      }
      return all;
    };
    const std::vector<float> kept = grads(false), again = grads(true);
    CHECK(std::memcmp(kept.data(), again.data(), kept.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("a dry run counts the same FLOPs and bytes and touches nothing") {
  Context real, dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  Counters counted, planned;
  real.counters = &counted;
  dry.counters = &planned;
  size_t peak[2];
  int i = 0;
  for (Context* c : {&real, &dry}) {
    Model model(*c, tiny("kda, swiglu, gqa, moe{experts=4,top_k=2}"));
    model.parameters().allocate_grads(*c);
    Tape tape;
    Context train = *c;
    train.tape = &tape;
    const std::vector<int32_t> ids = some_ids(65);
    const LossResult loss =
        model.loss(train, std::span(ids).first(64), std::span(ids).last(64), Batch::uniform(1, 64));
    tape.backward(*c, loss.loss);
    peak[i++] = c->arena->stats().peak;
  }
  CHECK(counted.product_flops > 0);
  CHECK(planned.product_flops == counted.product_flops);
  CHECK(static_cast<double>(peak[1]) ==
        doctest::Approx(static_cast<double>(peak[0])).epsilon(0.02));
}

TEST_CASE("the canonical expression carries only what differs from the defaults") {
  Context ctx;
  Model model(ctx, tiny("2x(gqa{ rope = true },swiglu),gqa{window=8}|kda,gqa+gdn{conv=4}"));
  CHECK(model.canonical_stack() == "2 x (gqa, swiglu), gqa{window=8} | kda, gqa + gdn");
}

TEST_CASE("a deferred model has shapes and no memory, and runs once its parameters are set") {
  Context ctx;
  const ModelSettings settings = tiny("gqa, swiglu");
  Model filled(ctx, settings);
  const size_t before = ctx.arena->stats().in_use;
  Model model(ctx, settings, Model::Fill::kDeferred);
  CHECK(ctx.arena->stats().in_use == before);
  CHECK(model.parameters().bytes() == filled.parameters().bytes());
  for (Parameter& p : model.parameters()) set_f32(p, filled.parameters().find(p.name)->value);
  const std::vector<int32_t> ids = some_ids(9);
  const Batch batch = Batch::uniform(1, 9);
  CHECK(largest_difference(model.hidden(ctx, ids, batch), filled.hidden(ctx, ids, batch)) == 0);
}

TEST_CASE("a sequence whose parts are of different lengths, as a file can hold it, is refused") {
  Context ctx;
  for (const char* stack : {"nsa{compress_block=4,compress_stride=2,block=8,top_n=3,window=5}",
                            "moba{block=4,top_k=2}"}) {
    CAPTURE(stack);
    Model model(ctx, tiny(stack));
    SequenceState seq = model.new_sequence(ctx);
    SequenceState* const one[] = {&seq};
    const auto read = [&](int64_t at, int64_t n) {
      Batch b;
      b.seq_starts = {0, n};
      b.offsets = {at};
      const std::vector<int32_t> ids = some_ids(at + n);
      model.hidden(ctx, std::span(ids).subspan(static_cast<size_t>(at)), b, one);
    };
    read(0, 20);
    dynamic_cast<GroupState&>(*seq.layers[0]).member(1).reset();
    CHECK_THROWS_WITH_AS(read(20, 3), doctest::Contains("20 tokens make"), Error);
  }
}

}  // namespace braid

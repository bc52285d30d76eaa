#include "braid/infer/decoder.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/infer/generate.h"
#include "braid/stack/settings.h"

namespace braid {
namespace {

ModelSettings settings(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.heads = 2;
  s.head_dim = 16;
  s.vocab = 11;  // few tokens: guesses are often right
  s.init = parse_named("normal{std=0.3}", "init");
  return s;
}

SamplingConfig sampling(double temperature) {
  SamplingConfig c;
  c.temperature = temperature;
  c.seed = 3;
  c.repetition_penalty = 1.1;
  return c;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.count() == b.count() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// Guesses that are right, wrong or both: what really follows, spoilt from the `wrong`th on.
class Oracle final : public Drafter {
 public:
  Oracle(std::vector<int32_t> truth, int64_t period) : truth_(std::move(truth)), period_(period) {}
  std::vector<int32_t> propose(std::span<const int32_t> tokens, int64_t count) override {
    std::vector<int32_t> out;
    for (size_t i = tokens.size(); i < truth_.size() && std::ssize(out) < count; ++i) {
      const bool spoilt = static_cast<int64_t>(i) % period_ == 0;
      out.push_back(spoilt ? (truth_[i] + 1) % 11 : truth_[i]);
    }
    return out;
  }

 private:
  std::vector<int32_t> truth_;
  int64_t period_;
};

struct Run {
  std::vector<int32_t> tokens;
  SequenceState state;
  DraftStats stats;
};

Run decode(const Context& ctx, Model& model, double temperature, int64_t count, Drafter* drafter) {
  const SamplingConfig config = sampling(temperature);
  Run run{{}, model.new_sequence(ctx), {}};
  const std::vector<int32_t> prompt = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3};
  advance(ctx, model, run.state, prompt);
  Decoder decoder(ctx, model, run.state, config, drafter);
  while (true) {
    const auto next = decoder.next(count - std::ssize(run.tokens));
    run.tokens.insert(run.tokens.end(), next.begin(), next.end());
    if (std::ssize(run.tokens) == count) {
      decoder.finish(std::ssize(next));
      break;
    }
  }
  run.stats = decoder.stats();
  return run;
}

}  // namespace

TEST_CASE("drafted tokens and states are those of plain decoding, bit for bit") {
  const Context ctx;
  for (const char* stack : {"2 x (gqa{kv_heads=1}, swiglu)", "gdn, swiglu, kda",
                            "gqa{window=8}, lightning, moe", "deltaproduct, retnet, gqa, swiglu"}) {
    CAPTURE(stack);
    Model model(ctx, settings(stack));
    for (const double temperature : {0.0, 0.8}) {
      CAPTURE(temperature);
      const Run plain = decode(ctx, model, temperature, 60, nullptr);
      CHECK(plain.stats.passes == 60);
      std::vector<int32_t> truth = plain.state.tokens;
      for (const int64_t period : {2, 3, 5, 1000}) {
        CAPTURE(period);
        Oracle oracle(truth, period);
        const Run drafted = decode(ctx, model, temperature, 60, &oracle);
        CHECK(drafted.tokens == plain.tokens);
        CHECK(drafted.state.tokens == plain.state.tokens);
        CHECK(drafted.state.draws == plain.state.draws);
        CHECK(same_bits(drafted.state.logits, plain.state.logits));
        CHECK(drafted.stats.accepted > 0);
        if (period == 1000) CHECK(drafted.stats.passes < 40);
      }
      const auto ngram = ngram_drafter(1);
      CHECK(decode(ctx, model, temperature, 60, ngram.get()).tokens == plain.tokens);
      const auto self = model_drafter(ctx, model);
      const Run by_itself = decode(ctx, model, temperature, 60, self.get());
      CHECK(by_itself.tokens == plain.tokens);
      // A model that drafts for itself is right whenever the text is greedy and nothing is
      // penalised.
      CHECK(by_itself.stats.drafted > 0);
    }
  }
}

TEST_CASE("a text that ends inside accepted guesses leaves the state of its last token") {
  const Context ctx;
  Model model(ctx, settings("gdn, swiglu, gqa, swiglu"));
  const Run plain = decode(ctx, model, 0, 30, nullptr);
  const SamplingConfig config = sampling(0);
  Oracle oracle(plain.state.tokens, 1000);
  SequenceState state = model.new_sequence(ctx);
  advance(ctx, model, state, std::span(plain.state.tokens).first(10));
  Decoder decoder(ctx, model, state, config, &oracle);
  int64_t seen = 0;
  while (true) {
    const auto next = decoder.next(100);
    if (next.size() < 3) {
      seen += std::ssize(next);
      continue;
    }
    seen += 2;
    decoder.finish(2);
    break;
  }
  const Run shorter = decode(ctx, model, 0, seen, nullptr);
  CHECK(state.tokens == shorter.state.tokens);
  CHECK(state.draws == shorter.state.draws);
  CHECK(same_bits(state.logits, shorter.state.logits));
}

TEST_CASE("the n-gram drafter copies what followed last time") {
  const auto drafter = ngram_drafter(2);
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 9, 1, 2, 5, 6, 1, 2};
  CHECK(drafter->propose(tokens, 3) == std::vector<int32_t>{5, 6, 1});
  CHECK(drafter->propose(std::span(tokens).first(10), 3).empty());
  CHECK(drafter->propose(std::span(tokens).first(7), 2) == std::vector<int32_t>{3, 4});
}

}  // namespace braid

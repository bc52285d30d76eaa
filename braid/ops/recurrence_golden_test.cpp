// Every op-level file of $BRAID_GOLDEN/recurrence (README there): outputs, final states and all
// gradients. Files of whole layers are run by the layers' golden test.

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "braid/formats/safetensors.h"
#include "braid/ops/recurrence.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::worst_error;
using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;

struct Kind {
  Decay decay;
  Erase erase;
};

const std::map<std::string, Kind>& kinds() {
  static const std::map<std::string, Kind> kinds = {
      {"linear_attn", {Decay::kNone, Erase::kNone}},
      {"gdn", {Decay::kScalar, Erase::kBeta}},
      {"kda", {Decay::kVector, Erase::kBeta}},
      {"gdn2", {Decay::kVector, Erase::kVector}},
      {"gla", {Decay::kVector, Erase::kNone}},
      {"deltanet", {Decay::kNone, Erase::kBeta}},
      {"lightning", {Decay::kPerHead, Erase::kNone}},
      {"retnet", {Decay::kPerHead, Erase::kNone}},
      {"comba", {Decay::kScalar, Erase::kKey}},
      {"deltaproduct", {Decay::kScalar, Erase::kBeta}}};
  return kinds;
}

// [B, T, ...] -> [B * T, ...]: the batch laid end to end.
Tensor tokens(const Context& ctx, const SafetensorsFile& file, const std::string& name) {
  if (file.find(name) == nullptr) return {};
  const Tensor t = file.to_f32(ctx, name);
  if (t.rank() < 3) return t;
  if (t.rank() == 3) return t.reshape({t.size(0) * t.size(1), t.size(2)});
  return t.reshape({t.size(0) * t.size(1), t.size(2), t.size(3)});
}

void check(const std::string& name, const Tensor& got, const Tensor& want, double tolerance) {
  REQUIRE(got.defined());
  const double error = worst_error(got, want);
  INFO(name, " differs by ", error, " of its largest value");
  CHECK(error <= tolerance);
}

void run(const SafetensorsFile& file, const Kind& kind, int64_t chunk) {
  Context ctx;
  RecurrenceConfig config;
  config.decay = kind.decay;
  config.erase = kind.erase;
  config.scale = std::stof(file.metadata("scale"));
  config.chunk = chunk;
  if (file.metadata().count("num_householder") > 0) {
    config.micro_steps = std::stoll(file.metadata("num_householder"));
  }
  RecurrenceInputs in;
  in.q = tokens(ctx, file, "q");
  in.k = tokens(ctx, file, "k");
  in.v = tokens(ctx, file, "v");
  in.g = tokens(ctx, file, kind.decay == Decay::kPerHead ? "log_decay" : "g");
  in.beta = tokens(ctx, file, "beta");
  in.b = tokens(ctx, file, "b");
  in.w = tokens(ctx, file, "w");
  in.p = tokens(ctx, file, "p");
  const Tensor states = file.to_f32(ctx, "initial_state");
  const int64_t batch = states.size(0), length = in.q.size(0) / batch;
  std::vector<int64_t> starts{0};
  std::vector<float*> blocks;
  for (int64_t s = 0; s < batch; ++s) {
    starts.push_back((s + 1) * length);
    blocks.push_back(states.select(0, s).data());
  }
  // Tolerances: specs/linear-recurrences.md section 11. Gradients of decays lose bits where all of
  // them are strong.
  constexpr double kTolerance = 1e-5, kStrongTolerance = 2e-4;
  bool strong = kind.decay != Decay::kNone;
  for (int64_t i = 0; strong && i < in.g.count(); ++i) strong = in.g.data()[i] < -4.0f;
  RecurrenceSaved saved;
  const Tensor out = recurrence_forward(ctx, config, in, starts, blocks, &saved);
  check("out", out, tokens(ctx, file, "out"), kTolerance);
  check("final_state", states, file.to_f32(ctx, "final_state"), kTolerance);
  const RecurrenceGrads grads =
      recurrence_backward(ctx, config, in, starts, saved, tokens(ctx, file, "d_out"),
                          file.to_f32(ctx, "d_final_state"));
  const std::map<std::string, Tensor> by_name = {
      {"q", grads.q},         {"k", grads.k},
      {"v", grads.v},         {"g", grads.g},
      {"log_decay", grads.g}, {"beta", grads.beta},
      {"b", grads.b},         {"w", grads.w},
      {"p", grads.p},         {"initial_state", grads.initial_states}};
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.name.rfind("grad.", 0) != 0) continue;
    const std::string of = entry.name.substr(5);
    REQUIRE_MESSAGE(by_name.count(of) == 1, "a gradient of unknown ", of);
    const Tensor want =
        of == "initial_state" ? file.to_f32(ctx, entry.name) : tokens(ctx, file, entry.name);
    check(entry.name, by_name.at(of), want, of == "g" && strong ? kStrongTolerance : kTolerance);
  }
}

}  // namespace

TEST_CASE("golden: the recurrence, forward, final state and all gradients") {
  int ran = 0;
  for (const std::string& path : testing::golden_files("recurrence")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata().count("layer") > 0) continue;
    CAPTURE(path);
    const auto kind = kinds().find(file.metadata("mixer"));
    REQUIRE_MESSAGE(kind != kinds().end(), "unknown mixer ", file.metadata("mixer"));
    for (const int64_t chunk : {0, 16, 64}) run(file, kind->second, chunk);
    ++ran;
  }
  CHECK_MESSAGE(ran > 0, "no golden file of a recurrence was found");
}

}  // namespace braid

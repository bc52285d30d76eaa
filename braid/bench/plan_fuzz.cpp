// A stack expression in the first line and model.toml's other lines below it: what parses is either
// refused by the layers and settings it is built from, with Error(kUsage), or it is a model that
// can be planned. Nothing has weights, so sizes may be as large as text can say.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "braid/base/error.h"
#include "braid/bench/plan.h"
#include "braid/stack/spec.h"
#include "braid/testing/fuzz_expect.h"

namespace braid {
namespace {

void check_number(double x) { BRAID_CHECK(std::isfinite(x) && x >= 0); }

int64_t check_list(const Plan& plan) {
  std::set<std::string_view> names;
  int64_t trained = 0;
  for (const PlanParameter& p : plan.list) {
    BRAID_CHECK(names.insert(p.name).second);
    for (int i = 0; i < p.shape.rank(); ++i) BRAID_CHECK(p.shape[i] > 0);
    if (p.trained) trained += p.shape.count();
  }
  return trained;
}

// What is printed describes the same model.
void check_canonical(ModelSettings settings, const Plan& plan, const PlanOptions& options) {
  settings.stack = parse_stack(plan.stack, known_layers());
  const Plan again = list_plan(settings, options);
  BRAID_CHECK(again.stack == plan.stack);
  BRAID_CHECK(again.list.size() == plan.list.size());
  for (size_t i = 0; i < plan.list.size(); ++i) {
    BRAID_CHECK(again.list[i].name == plan.list[i].name);
    BRAID_CHECK(again.list[i].shape == plan.list[i].shape);
    BRAID_CHECK(again.list[i].init == plan.list[i].init);
  }
}

void check_plan(const Plan& plan, const PlanOptions& options, int64_t trained) {
  BRAID_CHECK(plan.parameters == trained);
  BRAID_CHECK(plan.active_parameters > 0 && plan.active_parameters <= plan.parameters);
  BRAID_CHECK(plan.weight_bytes / sizeof(float) >= static_cast<size_t>(plan.parameters));
  BRAID_CHECK(plan.token_weight_bytes <= plan.weight_bytes);
  int64_t owned = 0;
  for (const PlanLayer& l : plan.layers) owned += l.parameters;
  BRAID_CHECK(owned >= plan.parameters);
  for (const double bytes : plan.token_state_bytes) check_number(bytes);
  check_number(plan.prefill_flops);
  check_number(plan.train_flops);
  size_t before = plan.recurrent_bytes;
  for (const PlanContext& c : plan.contexts) {
    BRAID_CHECK(c.state_bytes >= before);
    before = c.state_bytes;
    check_number(c.decode_flops);
    check_number(c.decode_seconds);
    BRAID_CHECK(c.memory.state >= c.state_bytes || c.tokens == 0);
  }
  const TrainingNeed& need = plan.train_need;
  BRAID_CHECK(need.weights >= plan.weight_bytes && need.total() >= need.weights);
  Json::parse(plan_json(plan, options).dump());
  plan_text(plan, options);
}

void build(std::string_view stack, std::string_view toml) {
  ModelSettings settings = parse_settings(toml);
  settings.stack = parse_stack(stack, known_layers());
  if (settings.width == 0) settings.width = 64;
  if (count_sublayers(settings.stack) > 24) return;  // more of the same would only cost time
  PlanOptions options;
  options.contexts = {16, 300};
  options.prefill = 70;
  options.batch = 2;
  options.seq_len = 9;
  options.threads = 1;
  const Plan list = list_plan(settings, options);
  const int64_t trained = check_list(list);
  check_canonical(settings, list, options);
  if (settings.positions > 0 && settings.positions <= 300) return;  // contexts must fit
  MachineLimits limits;
  limits.peak_gflops = 100;
  limits.read_gbs = limits.read_write_gbs = 10;
  limits.threads = 1;
  const Plan plan = make_plan(settings, options, limits);
  BRAID_CHECK(plan.stack == list.stack);
  check_plan(plan, options, trained);
}

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = text.find('\n');
  try {
    braid::build(text.substr(0, line), line == text.npos ? "" : text.substr(line + 1));
  } catch (const braid::Error& e) {
    braid::testing::expect(e, {braid::ErrorKind::kUsage, braid::ErrorKind::kBadInput});
  }
  return 0;
}

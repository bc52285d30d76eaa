#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/bench/plan.h"
#include "braid/ops/weight.h"

namespace braid {
namespace {

std::string scaled(double n, double base, std::initializer_list<const char*> units) {
  auto unit = units.begin();
  while (n >= base * 0.9995 && unit + 1 != units.end()) {
    n /= base;
    ++unit;
  }
  return format("{:.{}f} {}", n, unit == units.begin() ? 0 : n < 99.95 ? 2 : 1, *unit);
}

std::string bytes_text(size_t n) {
  return scaled(static_cast<double>(n), 1024, {"B", "KiB", "MiB", "GiB", "TiB"});
}
std::string count_text(double n) { return scaled(n, 1000, {"", "k", "M", "G", "T", "P"}); }

// One line a layer, or one a kind where there are many.
std::string layers_text(const Plan& plan) {
  constexpr size_t kMany = 24;
  std::string out;
  if (plan.layers.size() <= kMany) {
    for (const PlanLayer& l : plan.layers) {
      if (l.parameters > 0) out += format("  {:<12} {:<16} {:>12}\n", l.path, l.name, l.parameters);
    }
    return out;
  }
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const std::string& name = plan.layers[i].name;
    const auto same = [&](const PlanLayer& l) { return l.name == name; };
    if (std::find_if(plan.layers.begin(), plan.layers.end(), same) != plan.layers.begin() + i)
      continue;
    int64_t n = 0, parameters = 0;
    for (const PlanLayer& l : plan.layers) {
      n += same(l) ? 1 : 0;
      parameters += same(l) ? l.parameters : 0;
    }
    if (parameters > 0) out += format("  {:>4} x {:<16} {:>16}\n", n, name, parameters);
  }
  return out;
}

Json settings_json(const ModelSettings& s) {
  return Json::object({{"width", s.width},
                       {"heads", s.heads},
                       {"head_dim", s.head_dim},
                       {"vocab", s.vocab},
                       {"max_position_embeddings", s.max_position_embeddings},
                       {"tie_embeddings", s.tie_embeddings},
                       {"norm", norm_name(s.norm)},
                       {"norm_placement", placement_name(s.norm_placement)},
                       {"norm_eps", s.norm_eps},
                       {"residual", print_named(s.residual)},
                       {"embedding_scale", s.embedding_scale},
                       {"embedding_norm", s.embedding_norm},
                       {"positions", s.positions},
                       {"meta_tokens", s.meta_tokens},
                       {"logit_scale", s.logit_scale},
                       {"logit_softcap", s.logit_softcap}});
}

Json positions_json(const std::vector<PositionLayers>& positions) {
  Json out = Json::array();
  for (const PositionLayers& p : positions) {
    out.push(Json::object({{"layer", p.name},
                           {"layers", p.layers},
                           {"rope", p.how.rope},
                           {"rope_theta", p.how.theta},
                           {"rotary", p.how.rotary},
                           {"rope_scaling", p.how.scaling},
                           {"window", p.how.window}}));
  }
  return out;
}

// What holds for all layers; what most models leave alone only where this one does not.
std::string settings_text(const ModelSettings& s) {
  std::string out =
      format("model       width {}, vocabulary {}, {}, made for {}\n", s.width, s.vocab,
             s.tie_embeddings ? "embedding and head tied" : "a head of its own",
             s.max_position_embeddings > 0 ? format("{} tokens", s.max_position_embeddings)
                                           : "an unknown number of tokens");
  out += format("norms       {}, {}, eps {}", norm_name(s.norm), placement_name(s.norm_placement),
                shortest_text(s.norm_eps));
  if (s.embedding_norm) out += ", embeddings normed";
  out += format("; residual {}\n", print_named(s.residual));
  std::string scales;
  const auto scale = [&](const char* what, double value, double usual) {
    if (value != usual)
      scales += format("{}{} {}", scales.empty() ? "" : ", ", what, shortest_text(value));
  };
  scale("embeddings times", s.embedding_scale, 1);
  scale("logits times", s.logit_scale, 1);
  scale("logits capped at", s.logit_softcap, 0);
  if (!scales.empty()) out += format("scales      {}\n", scales);
  if (s.positions > 0) out += format("positions   {} learned\n", s.positions);
  if (s.meta_tokens > 0)
    out += format("meta        {} learned tokens before every sequence\n", s.meta_tokens);
  return out;
}

std::string positions_text(const Plan& plan) {
  std::string out;
  for (const PositionLayers& p : plan.positions) {
    out += format("rope        {} x {}: ", p.layers, p.name);
    if (!p.how.rope) {
      out += "none";
    } else {
      out += format("theta {}", shortest_text(p.how.theta));
      if (p.how.rotary != 1) out += format(", {} of a head", shortest_text(p.how.rotary));
      if (!p.how.scaling.empty()) out += format(", scaling {}", rope_scaling_words(p.how.scaling));
    }
    out += p.how.window > 0 ? format(", window {}\n", p.how.window) : "\n";
  }
  if (std::any_of(plan.positions.begin(), plan.positions.end(),
                  [](const PositionLayers& p) { return p.how.window > 0; }))
    out += format("windows     {}\n", plan.windows);
  return out;
}

}  // namespace

Json parameters_json(const Plan& plan) {
  Json list = Json::array();
  for (const PlanParameter& p : plan.list) {
    Json shape = Json::array();
    for (int i = 0; i < p.shape.rank(); ++i) shape.push(p.shape[i]);
    list.push(Json::object({{"name", p.name},
                            {"shape", std::move(shape)},
                            {"type", weight_type_name(p.type)},
                            {"parameters", p.shape.count()},
                            {"trained", p.trained},
                            {"init", p.init}}));
  }
  return Json::object({{"stack", plan.stack}, {"parameters", std::move(list)}});
}

std::string parameters_text(const Plan& plan) {
  size_t name = 4, shape = 5;
  for (const PlanParameter& p : plan.list) {
    name = std::max(name, p.name.size());
    shape = std::max(shape, p.shape.str().size());
  }
  std::string out = format("{:<{}}  {:<{}}  {:<5}  {:>12}  {}\n", "name", name, "shape", shape,
                           "type", "parameters", "init");
  for (const PlanParameter& p : plan.list) {
    out += format("{:<{}}  {:<{}}  {:<5}  {:>12}  {}{}\n", p.name, name, p.shape.str(), shape,
                  weight_type_name(p.type), p.shape.count(), p.init,
                  p.trained ? "" : " (not trained by gradients)");
  }
  return out;
}

Json plan_json(const Plan& plan, const PlanOptions& options) {
  Json layers = Json::array();
  for (const PlanLayer& l : plan.layers) {
    layers.push(Json::object({{"name", l.name}, {"path", l.path}, {"parameters", l.parameters}}));
  }
  Json contexts = Json::array();
  for (const PlanContext& c : plan.contexts) {
    contexts.push(Json::object({{"tokens", c.tokens},
                                {"state_bytes", c.state_bytes},
                                {"state_read_bytes", c.state_read_bytes},
                                {"read_bytes", read_bytes(plan, c)},
                                {"weight_bytes", c.memory.weights},
                                {"scratch_bytes", c.memory.scratch},
                                {"resident_bytes", c.memory.resident()},
                                {"decode_flops", c.decode_flops},
                                {"decode_ms", c.decode_seconds * 1e3}}));
  }
  return Json::object(
      {{"stack", plan.stack},
       {"settings", settings_json(plan.settings)},
       {"positions", positions_json(plan.positions)},
       {"windows", plan.windows},
       {"parameters", plan.parameters},
       {"active_parameters", plan.active_parameters},
       {"weight_bytes", plan.weight_bytes},
       {"weight_bytes_f32", plan.typed_weight_bytes[0]},
       {"weight_bytes_bf16", plan.typed_weight_bytes[1]},
       {"weight_bytes_q8", plan.typed_weight_bytes[2]},
       {"weight_bytes_q4", plan.typed_weight_bytes[3]},
       {"kv_bytes_per_token_f32", plan.token_state_bytes[0]},
       {"kv_bytes_per_token_bf16", plan.token_state_bytes[1]},
       {"kv_bytes_per_token_q8", plan.token_state_bytes[2]},
       {"types", type_shares_json(plan.types)},
       {"layers", layers},
       {"prefill", Json::object({{"tokens", options.prefill},
                                 {"flops", plan.prefill_flops},
                                 {"flops_per_token",
                                  plan.prefill_flops / static_cast<double>(options.prefill)},
                                 {"seconds", plan.prefill_seconds}})},
       {"contexts", contexts},
       {"train", Json::object({{"batch", options.batch},
                               {"seq_len", options.seq_len},
                               {"accumulate", options.accumulate},
                               {"recompute", options.recompute},
                               {"flops", plan.train_flops},
                               {"seconds", plan.train_seconds},
                               {"tensor_bytes", plan.train_need.total()},
                               {"weight_bytes", plan.train_need.weights},
                               {"gradient_bytes", plan.train_need.gradients},
                               {"optimizer_bytes", plan.train_need.optimizer},
                               {"activation_bytes", plan.train_need.activations},
                               {"resident_bytes", plan.train_resident}})},
       {"limits", Json::object({{"f32_peak_gflops", plan.limits.peak_gflops},
                                {"read_gbs", plan.limits.read_gbs},
                                {"read_write_gbs", plan.limits.read_write_gbs},
                                {"threads", plan.limits.threads},
                                {"cpu", plan.limits.cpu},
                                {"instructions", instructions_json(plan.limits.instructions)}})}});
}

std::string plan_text(const Plan& plan, const PlanOptions& options) {
  std::string out = format("stack       {}\n", plan.stack);
  out += settings_text(plan.settings);
  out += positions_text(plan);
  out += format("parameters  {} ({} active per token), {} of f32 weights\n",
                count_text(static_cast<double>(plan.parameters)),
                count_text(static_cast<double>(plan.active_parameters)),
                bytes_text(plan.weight_bytes));
  out += format("weights     f32 {}, bf16 {}, q8 {}, q4 {}\n",
                bytes_text(plan.typed_weight_bytes[0]), bytes_text(plan.typed_weight_bytes[1]),
                bytes_text(plan.typed_weight_bytes[2]), bytes_text(plan.typed_weight_bytes[3]));
  out += format("kv          a token adds {:.0f} bytes in f32, {:.0f} in bf16, {:.0f} in q8\n",
                plan.token_state_bytes[0], plan.token_state_bytes[1], plan.token_state_bytes[2]);
  out += layers_text(plan);
  out += format("machine     {}: f32 peak {:.0f} GFLOP/s, read {:.1f} GB/s, measured now\n",
                plan.limits.cpu, plan.limits.peak_gflops, plan.limits.read_gbs);
  out += format("            {}\n", instructions_text(plan.limits.instructions));
  out += format(
      "prefill     {} tokens: {}FLOP ({}FLOP a token), at the limit {:.3f} s = {} tokens/s\n",
      options.prefill, count_text(plan.prefill_flops),
      count_text(plan.prefill_flops / static_cast<double>(options.prefill)), plan.prefill_seconds,
      count_text(static_cast<double>(options.prefill) / plan.prefill_seconds));
  const std::optional<WeightType> wanted =
      options.types.empty() ? std::optional(options.weights) : std::nullopt;
  out += format(
      "memory      weights {}: {} ({}); resident = weights, state, scratch and {} of process\n",
      options.types.empty() ? format("in {}", weight_type_name(options.weights))
                            : "as the checkpoint has them",
      bytes_text(plan.inference_weight_bytes), type_shares_text(plan.types, wanted),
      bytes_text(plan.contexts[0].memory.process));
  out += format("            {:>7} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}   {}\n", "context",
                "state", "scratch", "resident", "state read", "read/token", "FLOP/token",
                "ms/token at the limit");
  for (const PlanContext& c : plan.contexts) {
    out +=
        format("            {:>7} {:>11} {:>11} {:>11} {:>11} {:>11} {:>11} {:>10.3f}\n", c.tokens,
               bytes_text(c.state_bytes), bytes_text(c.memory.scratch),
               bytes_text(c.memory.resident()), bytes_text(c.state_read_bytes),
               bytes_text(read_bytes(plan, c)), count_text(c.decode_flops), c.decode_seconds * 1e3);
  }
  out += format(
      "training    {} x {} x {} tokens a step{}: {}FLOP, at the limit {:.3f} s; resident memory "
      "{}\n",
      options.accumulate, options.batch, options.seq_len, options.recompute ? ", recomputed" : "",
      count_text(plan.train_flops), plan.train_seconds, bytes_text(plan.train_resident));
  return out;
}

}  // namespace braid

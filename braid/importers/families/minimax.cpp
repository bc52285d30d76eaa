// MiniMax-Text-01 and M1: lightning attention, every eighth layer softmax, and a residual branch
// that carries the normed value. The models' own config and that of transformers spell it
// differently.

#include <array>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// alpha and beta of lightning, softmax and expert sub-layers.
struct Factors {
  double linear = 1, full = 1, mlp = 1;
};

Factors read_factors(ConfigReader& c, bool own, const char* what) {
  const auto key = [&](const char* theirs, const char* native) {
    return own ? format("layernorm_{}_{}", theirs, what) : format("{}_{}_factor", native, what);
  };
  return {c.real(key("linear_attention", "linear_attn").c_str(), 1),
          c.real(key("full_attention", "full_attn").c_str(), 1),
          c.real(key("mlp", "mlp").c_str(), 1)};
}

// One number where all sub-layers agree, else theirs in turn, as short as they repeat.
std::string in_turn(const Factors& f, const std::vector<bool>& full) {
  if (f.linear == f.full && f.full == f.mlp) return shortest_text(f.mlp);
  const auto of = [&](size_t i) { return i % 2 == 1 ? f.mlp : full[i / 2] ? f.full : f.linear; };
  const size_t n = 2 * full.size();
  size_t period = 2;
  for (bool fits = false; !fits && period < n; period += fits ? 0 : 2) {
    fits = true;
    for (size_t i = period; fits && i < n; ++i) fits = of(i) == of(i - period);
  }
  std::string out;
  for (size_t i = 0; i < period; ++i) {
    if (i > 0) out += ':';
    out += shortest_text(of(i));
  }
  return out;
}

std::vector<bool> full_layers(ConfigReader& c, bool own, int64_t layers) {
  std::vector<bool> full;
  const std::vector<int64_t> kinds = c.integers("attn_type_list");
  if (own || !kinds.empty()) {
    if (std::ssize(kinds) != layers)
      c.fail(format("attn_type_list has {} entries for {} layers", kinds.size(), layers));
    for (const int64_t kind : kinds) {
      if (kind > 1) c.fail(format("attn_type_list holds {}; 0 is lightning, 1 softmax", kind));
      full.push_back(kind == 1);
    }
  }
  const std::vector<std::string> types =
      read_layer_types(c, layers, {"full_attention", "linear_attention"});
  if (types.empty() && !full.empty()) return full;
  std::vector<bool> named;
  for (int64_t i = 0; i < layers; ++i)
    named.push_back(types.empty() ? i % 2 == 0 : types[static_cast<size_t>(i)] == "full_attention");
  if (!full.empty() && full != named) c.fail("layer_types and attn_type_list differ");
  return named;
}

void set_residual(ConfigReader& c, bool own, const std::vector<bool>& full, FamilyModel& m) {
  const Factors alpha = read_factors(c, own, "alpha"), beta = read_factors(c, own, "beta");
  if (own && !c.boolean("postnorm", false)) {
    for (const double f : {alpha.linear, alpha.full, alpha.mlp, beta.linear, beta.full, beta.mlp})
      if (f != 1) c.fail("postnorm is false with factors that are not 1");
    return;
  }
  OptionList o;
  o.add("alpha", in_turn(alpha, full), "1");
  o.add("beta", in_turn(beta, full), "1");
  m.settings.residual = o.layer("normed");
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  const bool own = c.model_type() != "minimax";
  read_model(c, {.max_positions = 131072, .eps = 1e-5}, m);
  c.require_text("hidden_act", {"silu"});
  GqaSettings gqa;
  read_heads(c, {.kv_heads = 8}, m, gqa);
  gqa.rope = read_partial_rope(c, {.theta = 1e6, .max_positions = 131072}, gqa.head_dim);
  if (own && (gqa.heads & (gqa.heads - 1)) != 0)
    c.fail(format("num_attention_heads is {}; slopes are known for powers of two", gqa.heads));
  c.require_integer("sliding_window", 0);
  if (c.integer("shared_intermediate_size", 0) != 0)
    c.fail("shared_intermediate_size is not 0; the mixing of shared experts is not known");
  c.ignore({"block_size", "shared_moe_mode", "layernorm_type"});
  const std::vector<bool> full = full_layers(c, own, m.layers);
  set_residual(c, own, full, m);
  MoeSettings moe;
  read_experts(c, 8, 2, c.integer("intermediate_size", 14336), moe);
  OptionList lightning;
  set_stack(
      m,
      [&](int64_t i) {
        return full[static_cast<size_t>(i)] ? gqa_layer(gqa, m.settings)
                                            : lightning.layer("lightning");
      },
      [&](int64_t) { return moe_layer(moe); });
  m.table = base_table();
  append(m.table, gqa_rows());
  m.table.push_back({"mixer.lightning.*", "self_attn.*", copied(), ""});
  append(m.table, moe_rows("block_sparse_moe.", "w1", "w3", "w2", ""));
  m.skipped = {"*.slope_rate", "*.query_decay", "*.key_decay", "*.diagonal_decay"};
  return m;
}

}  // namespace

Family family_minimax() {
  return {
      "minimax", {"minimax", "minimax_text_01", "minimax_m1", "MiniMaxText01", "MiniMaxM1"}, read};
}

}  // namespace braid

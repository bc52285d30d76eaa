// Families whose layers run attention and a state space side by side: their logits against a plain
// double-precision computation straight from the checkpoint's tensors, in the order of the
// published classes, with every multiplier where config.json has it.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "braid/testing/family_checkpoints.h"
#include "braid/testing/numeric.h"

namespace braid::testing {
namespace {

using Row = std::vector<double>;  // a vector or matrix, row-major, or [tokens, channels]

class Checkpoint {
 public:
  explicit Checkpoint(const std::string& folder)
      : config_(load_config(join_path(folder, "config.json"))) {
    const SafetensorsFolder files = SafetensorsFolder::open(folder);
    for (const std::string& name : files.names()) {
      const auto bytes = files.at(name).bytes();
      std::vector<float> values(bytes.size() / sizeof(float));
      std::memcpy(values.data(), bytes.data(), bytes.size());
      tensors_[name] = Row(values.begin(), values.end());
    }
  }
  const Row& at(const std::string& name) const {
    const auto found = tensors_.find(name);
    REQUIRE_MESSAGE(found != tensors_.end(), name);
    return found->second;
  }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  bool given(const char* key) const {
    const Json* v = config_.find(key);
    return v != nullptr && !v->is_null();
  }
  double real(const char* key, double fallback) const {
    return given(key) ? config_.find(key)->as_real() : fallback;
  }
  int64_t integer(const char* key, int64_t fallback) const {
    return static_cast<int64_t>(real(key, static_cast<double>(fallback)));
  }
  bool truth(const char* key) const { return given(key) && config_.find(key)->as_bool(); }
  double item(const char* key, size_t i, double fallback) const {
    return given(key) ? config_.find(key)->elements()[i].as_real() : fallback;
  }

 private:
  Json config_;
  std::map<std::string, Row> tensors_;
};

double silu(double x) { return x / (1 + std::exp(-x)); }
double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

Row scaled(Row x, double by) {
  for (double& v : x) v *= by;
  return x;
}
Row sum(Row a, const Row& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// x [T, in] times weight [out, in], plus the bias that stands beside it.
Row linear(const Checkpoint& c, const std::string& name, const Row& x, size_t in) {
  const Row& w = c.at(name + ".weight");
  const size_t out = w.size() / in, tokens = x.size() / in;
  Row y(tokens * out);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t o = 0; o < out; ++o) {
      double v = c.has(name + ".bias") ? c.at(name + ".bias")[o] : 0;
      for (size_t i = 0; i < in; ++i) v += w[o * in + i] * x[t * in + i];
      y[t * out + o] = v;
    }
  }
  return y;
}

// Over each `size` channels; `gain` is repeated over the row.
Row rms_norm(const Row& x, const Row& gain, size_t size, double eps) {
  Row y = x;
  for (size_t at = 0; at < x.size(); at += size) {
    double square = 0;
    for (size_t i = 0; i < size; ++i) square += x[at + i] * x[at + i];
    const double by = 1 / std::sqrt(square / static_cast<double>(size) + eps);
    for (size_t i = 0; i < size; ++i) y[at + i] *= by * gain[(at + i) % gain.size()];
  }
  return y;
}

// Columns [from, from + n) of x [T, width].
Row columns(const Row& x, size_t width, size_t from, size_t n) {
  Row y;
  for (size_t at = from; at < x.size(); at += width)
    y.insert(y.end(), x.begin() + static_cast<std::ptrdiff_t>(at),
             x.begin() + static_cast<std::ptrdiff_t>(at + n));
  return y;
}

// x [T, heads, d] turned by position, pairs (i, i + d / 2).
void rotate(Row& x, size_t heads, size_t d, double theta) {
  for (size_t t = 0; t < x.size() / (heads * d); ++t) {
    for (size_t h = 0; h < heads; ++h) {
      double* v = &x[(t * heads + h) * d];
      for (size_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(t) *
                             std::pow(theta, -2 * static_cast<double>(i) / static_cast<double>(d));
        const double a = v[i], b = v[i + d / 2];
        v[i] = a * std::cos(angle) - b * std::sin(angle);
        v[i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

// Causal attention: q [T, heads, d], k [T, kv, d], v [T, kv, dv]; a token sees those that
// sees(query, key) lets it.
template <typename Sees>
Row attend(const Row& q, const Row& k, const Row& v, size_t heads, size_t kv, size_t d, size_t dv,
           Sees sees) {
  const size_t tokens = q.size() / (heads * d);
  Row out(tokens * heads * dv);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t h = 0; h < heads; ++h) {
      const size_t g = h / (heads / kv);
      Row p(t + 1, 0.0);
      double total = 0;
      for (size_t j = 0; j <= t; ++j) {
        if (!sees(t, j)) continue;
        double s = 0;
        for (size_t i = 0; i < d; ++i) s += q[(t * heads + h) * d + i] * k[(j * kv + g) * d + i];
        total += p[j] = std::exp(s / std::sqrt(static_cast<double>(d)));
      }
      for (size_t j = 0; j <= t; ++j) {
        for (size_t i = 0; i < dv; ++i)
          out[(t * heads + h) * dv + i] += p[j] / total * v[(j * kv + g) * dv + i];
      }
    }
  }
  return out;
}

// silu of the causal depthwise convolution over x [T, channels].
Row convolved(const Checkpoint& c, const std::string& name, const Row& x, size_t channels) {
  const Row& w = c.at(name + ".weight");
  const size_t taps = w.size() / channels, tokens = x.size() / channels;
  Row y(x.size());
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < channels; ++i) {
      double v = c.has(name + ".bias") ? c.at(name + ".bias")[i] : 0;
      for (size_t j = 0; j < taps && j <= t; ++j)
        v += w[i * taps + taps - 1 - j] * x[(t - j) * channels + i];
      y[t * channels + i] = silu(v);
    }
  }
  return y;
}

Row swiglu(const Checkpoint& c, const std::string& at, const Row& x, size_t width, double gate_by,
           double by) {
  const Row gate = linear(c, at + "gate_proj", x, width);
  Row up = linear(c, at + "up_proj", x, width);
  for (size_t i = 0; i < up.size(); ++i) up[i] *= silu(gate[i] * gate_by);
  return scaled(linear(c, at + "down_proj", up, up.size() / (x.size() / width)), by);
}

Row falcon_mamba2(const Checkpoint& c, const std::string& at, const Row& x, size_t width) {
  const auto heads = static_cast<size_t>(c.integer("mamba_n_heads", 0)),
             groups = static_cast<size_t>(c.integer("mamba_n_groups", 1)),
             n = static_cast<size_t>(c.integer("mamba_d_state", 0));
  const size_t inner = c.at(at + "out_proj.weight").size() / width, p = inner / heads,
               bc = groups * n, all = 2 * inner + 2 * bc + heads, tokens = x.size() / width;
  Row in = linear(c, at + "in_proj", scaled(x, c.real("ssm_in_multiplier", 1)), width);
  for (size_t i = 0; i < in.size(); ++i) {
    const size_t k = i % all;
    const size_t part = k < inner                ? 0
                        : k < 2 * inner          ? 1
                        : k < 2 * inner + bc     ? 2
                        : k < 2 * inner + 2 * bc ? 3
                                                 : 4;
    in[i] *= c.item("ssm_multipliers", part, 1);
  }
  const Row gate = columns(in, all, 0, inner), raw = columns(in, all, 2 * inner + 2 * bc, heads),
            xbc = convolved(c, at + "conv1d", columns(in, all, inner, inner + 2 * bc),
                            inner + 2 * bc);
  Row y(tokens * inner), state(heads * n * p);
  for (size_t t = 0; t < tokens; ++t) {
    const double* row = &xbc[t * (inner + 2 * bc)];
    for (size_t h = 0; h < heads; ++h) {
      double dt = softplus(raw[t * heads + h] + c.at(at + "dt_bias")[h]);
      if (c.given("time_step_limit"))
        dt = std::clamp(dt, c.item("time_step_limit", 0, 0), c.item("time_step_limit", 1, 0));
      const double decay = std::exp(-std::exp(c.at(at + "A_log")[h]) * dt);
      const double *b = row + inner + h / (heads / groups) * n, *cc = b + bc;
      for (size_t i = 0; i < p; ++i) {
        const double u = row[h * p + i];
        double sum = c.at(at + "D")[h] * u;
        for (size_t s = 0; s < n; ++s) {
          double& cell = state[(h * n + s) * p + i];
          cell = decay * cell + dt * b[s] * u;
          sum += cell * cc[s];
        }
        y[t * inner + h * p + i] = sum;
      }
    }
  }
  const bool normed = c.truth("mamba_rms_norm"), before = c.truth("mamba_norm_before_gate");
  const auto norm = [&] { y = rms_norm(y, c.at(at + "norm.weight"), inner / groups, 1e-5); };
  if (normed && before) norm();
  for (size_t i = 0; i < y.size(); ++i) y[i] *= silu(gate[i]);
  if (normed && !before) norm();
  return linear(c, at + "out_proj", y, inner);
}

Row falcon_attention(const Checkpoint& c, const std::string& at, const Row& x, size_t width,
                     double theta) {
  const auto heads = static_cast<size_t>(c.integer("num_attention_heads", 0)),
             kv = static_cast<size_t>(c.integer("num_key_value_heads", 0));
  const size_t d = c.at(at + "q_proj.weight").size() / width / heads;
  Row q = linear(c, at + "q_proj", x, width),
      k = scaled(linear(c, at + "k_proj", x, width), c.real("key_multiplier", 1));
  const Row v = linear(c, at + "v_proj", x, width);
  rotate(q, heads, d, theta);
  rotate(k, kv, d, theta);
  return linear(c, at + "o_proj",
                attend(q, k, v, heads, kv, d, d, [](size_t, size_t) { return true; }), heads * d);
}

Row embedded(const Checkpoint& c, const std::vector<int32_t>& ids, size_t width) {
  Row x;
  for (const int32_t id : ids) {
    const auto row = c.at("model.embed_tokens.weight").begin() +
                     static_cast<std::ptrdiff_t>(static_cast<size_t>(id) * width);
    x.insert(x.end(), row, row + static_cast<std::ptrdiff_t>(width));
  }
  return x;
}

Row falcon_logits(const Checkpoint& c, const std::vector<int32_t>& ids, double theta) {
  const auto width = static_cast<size_t>(c.integer("hidden_size", 0));
  constexpr double kEps = 1e-5;
  Row x = scaled(embedded(c, ids, width), c.real("embedding_multiplier", 1));
  for (int64_t i = 0; i < c.integer("num_hidden_layers", 0); ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    const Row h = rms_norm(x, c.at(at + "input_layernorm.weight"), width, kEps);
    const Row ssm =
        scaled(falcon_mamba2(c, at + "mamba.", h, width), c.real("ssm_out_multiplier", 1));
    const Row attention =
        scaled(falcon_attention(c, at + "self_attn.",
                                scaled(h, c.real("attention_in_multiplier", 1)), width, theta),
               c.real("attention_out_multiplier", 1));
    x = sum(x, sum(ssm, attention));
    const Row f = rms_norm(x, c.at(at + "pre_ff_layernorm.weight"), width, kEps);
    x = sum(x, swiglu(c, at + "feed_forward.", f, width, c.item("mlp_multipliers", 0, 1),
                      c.item("mlp_multipliers", 1, 1)));
  }
  x = rms_norm(x, c.at("model.final_layernorm.weight"), width, kEps);
  const bool tied = !c.has("lm_head.weight");
  return scaled(linear(c, tied ? "model.embed_tokens" : "lm_head", x, width),
                c.real("lm_head_multiplier", 1));
}

TEST_CASE("Falcon-H1's logits are those of its class, multiplier by multiplier") {
  const Context ctx;
  const ScratchFolder scratch("families-falcon");
  for (const auto& [name, theta] : {std::pair{"falcon_h1", 1e11}, {"falcon_h1_norm", 1e4}}) {
    INFO(name);
    const std::string folder = make_checkpoint(ctx, scratch, tiny_config(name), "F32");
    const Row want = falcon_logits(Checkpoint(folder), tiny_ids(0, 24), theta);
    const std::vector<float> got = logits_of(ctx, *load_model(ctx, folder).model, {24});
    CHECK(worst_error(Row(got.begin(), got.end()), want) < 1e-5);
  }
}

TEST_CASE("Falcon-H1's tensors have the names of its checkpoints and are read strictly") {
  const Context ctx;
  const ScratchFolder scratch("families-falcon-strict");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("falcon_h1"), "F32");
  const std::string at = "model.layers.1.";
  for (const std::string& name :
       {at + "mamba.in_proj.weight", at + "mamba.conv1d.bias", at + "mamba.dt_bias",
        at + "self_attn.k_proj.weight", at + "feed_forward.up_proj.weight",
        at + "input_layernorm.weight", at + "pre_ff_layernorm.weight",
        std::string("model.final_layernorm.weight")}) {
    const std::string to = scratch / ("without " + name);
    CHECK(
        says(load_error(ctx, broken_checkpoint(folder, to, name, "", false)), "missing: " + name));
  }
  for (const std::string& stray : {at + "mamba.norm.weight", at + "mamba.mup_vector"}) {
    CHECK(says(load_error(ctx, broken_checkpoint(folder, scratch / stray, "", stray, false)),
               "not of this model: " + stray));
  }
}

TEST_CASE("Falcon-H1's config.json is read strictly") {
  const std::string start =
      R"({"model_type": "falcon_h1", "hidden_size": 32, "num_attention_heads": 8,
          "mamba_n_heads": 8, "mamba_d_ssm": 64)";
  const std::string whole = start + R"(, "rope_theta": 10000.0)";
  CHECK(config_error(whole + "}") == "");
  CHECK(says(config_error(start + "}"), "rope_theta is missing"));
  CHECK(says(config_error(whole + R"(, "mamba_d_head": 16})"), "mamba_n_heads = 8 of"));
  CHECK(says(config_error(whole + R"(, "ssm_multipliers": [1, 2, 3]})"), "not 5 positive numbers"));
  CHECK(says(config_error(whole + R"(, "mlp_multipliers": [1, -2]})"), "not 2 positive numbers"));
  CHECK(says(config_error(whole + R"(, "key_multiplier": 0})"), "key_multiplier is 0"));
  CHECK(says(config_error(whole + R"(, "projectors_bias": true})"), "projectors_bias"));
  CHECK(says(config_error(whole + R"(, "mamba_use_mlp": false})"), "mamba_use_mlp"));
  CHECK(says(config_error(whole + R"(, "attn_layer_indices": [1]})"), "attn_layer_indices"));
  CHECK(says(config_error(whole + R"(, "attention_bias": true, "attention_in_multiplier": 2.0})"),
             "attention_in_multiplier"));
  CHECK(says(config_error(whole + R"(, "mamba_proj_bias": true, "projectors_bias": true,
                                      "ssm_in_multiplier": 2.0})"),
             "ssm_in_multiplier"));
}

// What a layer without keys and values of its own attends to, by the number of the layer that has.
using KeysAndValues = std::map<int64_t, std::pair<Row, Row>>;

Row hymba_mixer(const Checkpoint& c, const std::string& at, int64_t layer, int64_t producer,
                const Row& x, KeysAndValues& shared) {
  const auto width = static_cast<size_t>(c.integer("hidden_size", 0)),
             heads = static_cast<size_t>(c.integer("num_attention_heads", 0)),
             kv = static_cast<size_t>(c.integer("num_key_value_heads", 0)),
             n = static_cast<size_t>(c.integer("mamba_d_state", 0)),
             rank = static_cast<size_t>(c.integer("mamba_dt_rank", 0)),
             meta = static_cast<size_t>(c.integer("num_memory_tokens", 0)),
             window = static_cast<size_t>(c.integer("sliding_window", 0));
  const size_t inner = 2 * width, d = width / heads, dv = inner / heads, tokens = x.size() / width,
               own = producer == layer ? kv * (d + dv) : 0, all = width + own + 2 * inner;
  const Row in = linear(c, at + "in_proj", x, width);
  REQUIRE(in.size() == tokens * all);
  // "ntk" with the class's factor of 2.
  const double grown = 2 * c.real("max_position_embeddings", 0) /
                           c.real("orig_max_position_embeddings", 0) -
                       1,
               size = static_cast<double>(d),
               theta = c.real("rope_theta", 0) * std::pow(grown, size / (size - 2));
  Row q = columns(in, all, 0, width);
  rotate(q, heads, d, theta);
  if (own > 0) {
    Row k = columns(in, all, width, kv * d);
    rotate(k, kv, d, theta);
    shared[layer] = {k, columns(in, all, width + kv * d, kv * dv)};
  }
  const bool full = layer == 0 || layer == 5;
  const auto sees = [&](size_t t, size_t j) { return full || t - j <= window || j < meta; };
  const auto& [k, v] = shared.at(producer);
  const Row a = rms_norm(attend(q, k, v, heads, kv, d, dv, sees),
                         c.at(at + "pre_avg_layernorm1.weight"), inner, 1e-6);
  const Row u = convolved(c, at + "conv1d", columns(in, all, all - 2 * inner, inner), inner),
            gate = columns(in, all, all - inner, inner), dbc = linear(c, at + "x_proj.0", u, inner);
  const auto part = [&](size_t begin, size_t count, const char* name) {
    return rms_norm(columns(dbc, rank + 2 * n, begin, count), c.at(at + name), count, 1e-6);
  };
  const Row raw = linear(c, at + "dt_proj.0", part(0, rank, "dt_layernorm.weight"), rank),
            b = part(rank, n, "B_layernorm.weight"), cc = part(rank + n, n, "C_layernorm.weight");
  Row y(tokens * inner), state(inner * n);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t i = 0; i < inner; ++i) {
      const double dt = softplus(raw[t * inner + i]), ui = u[t * inner + i];
      double sum = c.at(at + "D.0")[i] * ui;
      for (size_t s = 0; s < n; ++s) {
        double& cell = state[i * n + s];
        cell = std::exp(-std::exp(c.at(at + "A_log.0")[i * n + s]) * dt) * cell +
               dt * b[t * n + s] * ui;
        sum += cell * cc[t * n + s];
      }
      y[t * inner + i] = sum * silu(gate[t * inner + i]);
    }
  }
  y = rms_norm(y, c.at(at + "pre_avg_layernorm2.weight"), inner, 1e-6);
  return linear(c, at + "out_proj", scaled(sum(a, y), 0.5), inner);
}

Row hymba_logits(const Checkpoint& c, const std::vector<int32_t>& ids) {
  const auto width = static_cast<size_t>(c.integer("hidden_size", 0));
  constexpr int64_t kProducer[] = {0, 1, 1, 3, 3, 5};
  Row x = c.at("model.memory_tokens");
  const size_t before = x.size();
  const Row tokens = embedded(c, ids, width);
  x.insert(x.end(), tokens.begin(), tokens.end());
  KeysAndValues shared;
  for (int64_t i = 0; i < 6; ++i) {
    const std::string at = "model.layers." + std::to_string(i) + ".";
    const Row h = rms_norm(x, c.at(at + "input_layernorm.weight"), width, 1e-6);
    x = sum(x, hymba_mixer(c, at + "mamba.", i, kProducer[i], h, shared));
    const Row f = rms_norm(x, c.at(at + "pre_moe_layernorm.weight"), width, 1e-6);
    x = sum(x, swiglu(c, at + "moe.experts.0.", f, width, 1, 1));
  }
  x = rms_norm(x, c.at("model.final_layernorm.weight"), width, 1e-6);
  x.erase(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(before));
  return linear(c, "model.embed_tokens", x, width);
}

TEST_CASE("Hymba's logits are those of its class: meta tokens, windows, shared keys and values") {
  const Context ctx;
  const ScratchFolder scratch("families-hymba");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("hymba"), "F32");
  const Row want = hymba_logits(Checkpoint(folder), tiny_ids(0, 24));
  const LoadedModel loaded = load_model(ctx, folder);
  for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{24}, {1, 1, 9, 13}}) {
    const std::vector<float> got = logits_of(ctx, *loaded.model, pieces);
    CHECK(worst_error(Row(got.begin(), got.end()), want) < 1e-5);
  }
}

TEST_CASE("Hymba's tensors have the names of its checkpoints and are read strictly") {
  const Context ctx;
  const ScratchFolder scratch("families-hymba-strict");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("hymba"), "F32");
  const std::string at = "model.layers.2.";
  for (const std::string& name :
       {at + "mamba.in_proj.weight", at + "mamba.x_proj.0.weight", at + "mamba.dt_proj.0.bias",
        at + "mamba.A_log.0", at + "mamba.B_layernorm.weight",
        at + "mamba.pre_avg_layernorm2.weight", at + "moe.experts.0.up_proj.weight",
        at + "pre_moe_layernorm.weight", std::string("model.memory_tokens"),
        std::string("model.final_layernorm.weight")}) {
    const std::string to = scratch / ("without " + name);
    CHECK(
        says(load_error(ctx, broken_checkpoint(folder, to, name, "", false)), "missing: " + name));
  }
  for (const std::string& stray : {at + "mamba.x_proj.1.weight", at + "moe.router.weight"}) {
    CHECK(says(load_error(ctx, broken_checkpoint(folder, scratch / stray, "", stray, false)),
               "not of this model: " + stray));
  }
  CHECK(print_stack(load_model(ctx, folder).model->settings().stack).find("window=6") !=
        std::string::npos);
}

TEST_CASE("Hymba's config.json is read strictly") {
  const std::string start = R"({"model_type": "hymba", "hidden_size": 32, "num_attention_heads": 4,
      "num_key_value_heads": 2, "num_hidden_layers": 4, "num_experts": 1)";
  CHECK(config_error(start + "}") == "");
  CHECK(config_error(start + R"(, "kv_reuse_group": [[0, 2], [1, 3]]})") == "");
  for (const char* group : {"[[0, 4]]", "[[2, 1]]", "[[0, 1], [1, 2]]", "[0, 1]", "[[]]"})
    CHECK(says(config_error(start + R"(, "kv_reuse_group": )" + group + "}"), "kv_reuse_group is"));
  CHECK(says(config_error(start + R"(, "kv_reuse_every_i_layer": 2})"), "kv_reuse_every_i_layer"));
  CHECK(says(config_error(start + R"(, "kv_weight_reuse": true})"), "kv_weight_reuse"));
  CHECK(says(config_error(start + R"(, "sliding_window": 4, "global_attn_idx": [1],
      "kv_reuse_group": [[0, 1]]})"),
             "layer 1 attends to more than layer 0 keeps"));
  CHECK(says(config_error(start + R"(, "rope_type": "dynamic_ntk"})"), "dynamic_ntk"));
  CHECK(says(config_error(start + R"(, "attn_hidden_size": 64})"), "attn_hidden_size is 64"));
  CHECK(says(config_error(start + R"(, "kq_norm": "rms"})"), "kq_norm"));
  CHECK(says(config_error(start + R"(, "num_mamba": 2})"), "num_mamba is 2"));
  CHECK(says(config_error(start + R"(, "memory_tokens_interspersed_every": 64})"), "interspersed"));
  CHECK(says(config_error(start + R"(, "layer_type": ["h", "m"]})"), "layer_type holds"));
}

}  // namespace
}  // namespace braid::testing

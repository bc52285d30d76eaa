// RWKV-7 (arXiv 2503.14456): a time mix and a channel mix per layer, layer norms, one more norm
// behind the embedding. Checkpoints spell their tensors as flash-linear-attention or as BlinkDL's
// RWKV-LM does; config.json has fla's keys for both, as BlinkDL's files come without one.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// A vector that the file keeps as [1, 1, C].
Transform channels() { return shaped({1, 1, -1}); }

TensorSpelling fla() {
  return {{{"embed_tokens.weight", "{P}embeddings.weight", copied(), ""},
           {"embed_norm.*", "{P}layers.0.pre_norm.*", copied(), ""},
           {"norm.*", "{P}norm.*", copied(), ""},
           {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
           {"mixer.norm.*", "attn_norm.*", copied(), ""},
           {"channel.norm.*", "ffn_norm.*", copied(), ""},
           {"mixer.rwkv7.x_*", "attn.x_*", channels(), ""},
           {"mixer.rwkv7.*", "attn.*", copied(), ""},
           {"channel.cmix.*", "ffn.*", copied(), ""}},
          "layers.",
          "model.",
          {}};
}

TensorSpelling blinkdl() {
  TensorSpelling s{{{"embed_tokens.weight", "{P}emb.weight", copied(), ""},
                    {"embed_norm.*", "{P}blocks.0.ln0.*", copied(), ""},
                    {"norm.*", "{P}ln_out.*", copied(), ""},
                    {"lm_head.weight", "{P}head.weight", copied(), ""},
                    {"mixer.norm.*", "ln1.*", copied(), ""},
                    {"channel.norm.*", "ln2.*", copied(), ""},
                    {"mixer.rwkv7.x_*", "att.x_*", channels(), ""},
                    {"mixer.rwkv7.k_k", "att.k_k", channels(), ""},
                    {"mixer.rwkv7.k_a", "att.k_a", channels(), ""},
                    {"mixer.rwkv7.r_k", "att.r_k", copied(), ""},
                    {"mixer.rwkv7.g_norm.*", "att.ln_x.*", copied(), ""},
                    {"channel.cmix.x_k", "ffn.x_k", channels(), ""},
                    {"channel.cmix.*", "ffn.*", copied(), ""}},
                   "blocks.",
                   "",
                   // The first layer's values are v_first: it has a residual of values, never read.
                   {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"}};
  for (const auto& [own, theirs] :
       {std::pair("r", "receptance"), {"k", "key"}, {"v", "value"}, {"o", "output"}}) {
    s.table.push_back(
        {format("mixer.rwkv7.{}_proj.weight", own), format("att.{}.weight", theirs), copied(), ""});
  }
  for (const char* lora : {"w", "a", "v", "g"}) {
    const std::string path = format("mixer.rwkv7.{}_lora.lora.", lora);
    s.table.push_back({path + "2.bias", format("att.{}0", lora), channels(), ""});
    s.table.push_back({path + "0.weight", format("att.{}1", lora), transposed(), ""});
    s.table.push_back({path + "2.weight", format("att.{}2", lora), transposed(), ""});
  }
  return s;
}

// A null is the class's own rule: a multiple of the root of the width, in steps of 32.
int64_t read_rank(ConfigReader& c, const char* key, int64_t fallback, double rule) {
  const double steps = std::nearbyint(rule / 32);
  const bool ruled = c.explicit_null(key);
  const int64_t rank =
      ruled ? std::max<int64_t>(32, static_cast<int64_t>(steps) * 32) : c.integer(key, fallback);
  if (rank < 1) c.fail(format("{} is 0", key));
  return rank;
}

// head_dim, or width / num_heads; where both stand they must agree.
int64_t read_head_dim(ConfigReader& c, int64_t width) {
  const std::optional<int64_t> heads = c.maybe_integer({"num_heads"});
  if (heads && (*heads < 1 || width % *heads != 0))
    c.fail(format("num_heads = {} does not divide hidden_size = {}", *heads, width));
  const int64_t dim = c.integer("head_dim", heads ? width / *heads : 64);
  if (dim < 1 || width % dim != 0)
    c.fail(format("head_dim = {} does not divide hidden_size = {}", dim, width));
  if (heads && *heads * dim != width)
    c.fail(format("num_heads = {} of head_dim = {} are not hidden_size = {}", *heads, dim, width));
  return dim;
}

LayerSpec time_mix(ConfigReader& c, const ModelSettings& s) {
  const int64_t dim = read_head_dim(c, s.width);
  const double root = std::sqrt(static_cast<double>(s.width));
  const double wide = root * static_cast<double>(dim) / 64;
  OptionList o;
  o.add("head_dim", dim, 64);
  o.add("decay_rank", read_rank(c, "decay_low_rank_dim", 64, 2.5 * wide), 0);
  o.add("a_rank", read_rank(c, "a_low_rank_dim", 64, 2.5 * wide), 0);
  o.add("v_rank", read_rank(c, "v_low_rank_dim", 16, 1.7 * wide), 0);
  o.add("g_rank", read_rank(c, "gate_low_rank_dim", 128, 5 * root), 0);
  o.add("norm_eps", static_cast<double>(dim) * s.norm_eps, 64e-5);
  return o.layer("rwkv7");
}

LayerSpec channel_mix(ConfigReader& c, int64_t width) {
  const double ratio = c.real("hidden_ratio", 4);
  if (!(ratio > 0 && ratio <= 1024)) c.fail(format("hidden_ratio is {}", ratio));
  const int64_t wide = static_cast<int64_t>(static_cast<double>(width) * ratio);
  const int64_t ffn = c.integer("intermediate_size", (wide + 31) / 32 * 32);
  if (ffn < 1) c.fail("intermediate_size is 0");
  return OptionList().add("ffn", ffn, 4 * width).layer("cmix");
}

// One number or one a layer; values as wide as the keys are all there is.
void check_value_dim(ConfigReader& c, int64_t width) {
  const Json* value = c.find("value_dim");
  if (value == nullptr) return;
  const std::vector<int64_t> dims = value->is_array()
                                        ? c.integers("value_dim")
                                        : std::vector<int64_t>{c.integer("value_dim", width)};
  for (const int64_t dim : dims) {
    if (dim != width) c.fail(format("value_dim {} is not hidden_size {}", dim, width));
  }
}

void set_spelling(FamilyModel& m, TensorSpelling first, TensorSpelling second) {
  m.table = first.table;
  m.layers_name = first.layers_name;
  m.prefix = first.prefix;
  m.skipped = first.skipped;
  m.spellings = {std::move(first), std::move(second)};
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2048, .layers = 24, .eps = 1e-5, .eps_key = "norm_eps"}, m);
  m.tie_given = true;  // without the key too: BlinkDL's head is no "lm_head.weight"
  m.settings.norm = NormKind::kLayer;
  m.settings.embedding_norm = c.boolean("norm_first", true);
  c.require_boolean("norm_bias", true);
  c.require_text("hidden_act", {"sqrelu"});
  if (c.find("attn") != nullptr) c.fail("attn says that some layers are softmax attention");
  check_value_dim(c, m.settings.width);
  c.ignore({"attn_mode", "fuse_norm", "fuse_cross_entropy", "fuse_linear_cross_entropy",
            "use_l2warp", "initializer_scale"});
  const LayerSpec mixer = time_mix(c, m.settings);
  const LayerSpec channel = channel_mix(c, m.settings.width);
  set_stack(
      m, [&](int64_t) { return mixer; }, [&](int64_t) { return channel; });
  if (c.model_type() == "rwkv7")
    set_spelling(m, fla(), blinkdl());
  else
    set_spelling(m, blinkdl(), fla());
  return m;
}

}  // namespace

// "x070" is what RWKV-LM calls this version; it says that written checkpoints have its names.
Family family_rwkv7() { return {"rwkv7", {"rwkv7", "RWKV-x070"}, read}; }

}  // namespace braid

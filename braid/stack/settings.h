#pragma once
// What stands beside the stack expression: the model-wide settings, kept in model.toml.
//
// clang-format off
//   stack = "2 x (3 x (kda, swiglu), gqa, swiglu)"
//   width = 192                  # also hidden_size
//   heads = 3                    # also num_attention_heads; default width / head_dim
//   head_dim = 64                # default width / heads, or 64, 32 or 16, the first that divides width
//   vocab = 256                  # also vocab_size; 256 = bytes
//   tie_embeddings = true        # also tie_word_embeddings: one matrix for embedding and head
//   norm = "rms_norm"            # or "rms_norm_1p": times 1 + w; or "layer_norm": with a bias
//   norm_placement = "pre"       # x + f(norm x); or "post": x + norm(f x); or "sandwich": both
//   norm_eps = 1e-06             # also rms_norm_eps, layer_norm_eps, layer_norm_epsilon
//   residual = "prenorm"         # or "attnres{block_sublayers=4}", "normed{alpha=..,beta=..}"
//   embedding_scale = 1          # embeddings are multiplied by it
//   embedding_norm = false       # the model's norm is applied to the embeddings too (RWKV's ln0)
//   positions = 0                # > 0: learned absolute positions, added to the embeddings
//   meta_tokens = 0              # > 0: learned rows before every sequence's first token (2411.13676)
//   logit_scale = 1              # logits are multiplied by it
//   logit_softcap = 0            # > 0: then become cap tanh(logit / cap)
//   max_position_embeddings = 0  # tokens the model was made for; 0 = unknown
//   init = "normal{std=0.02}"    # or "small", "fan_in"; see InitStd
//   seed = 0
// clang-format on
//
// norm_placement, embedding_scale, embedding_norm, positions, meta_tokens, logit_* and
// max_position_embeddings are printed only where they differ from their defaults.

#include <cstdint>
#include <string>
#include <string_view>

#include "braid/stack/spec.h"

namespace braid {

enum class NormKind { kRms, kRms1p, kLayer };
const char* norm_name(NormKind kind);       // "rms_norm", "rms_norm_1p", "layer_norm"
NormKind norm_kind(std::string_view name);  // throws Error(kUsage) that lists the names

// Where a sub-layer's norm stands: before the layer, after it, or both.
enum class NormPlacement { kPre, kPost, kSandwich };
const char* placement_name(NormPlacement placement);  // "pre", "post", "sandwich"
NormPlacement norm_placement(std::string_view name);  // throws Error(kUsage) that lists the names

struct ModelSettings {
  StackSpec stack;
  int64_t width = 0;  // 0 = not set; so are heads and head_dim
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t vocab = 256;
  bool tie_embeddings = true;
  NormKind norm = NormKind::kRms;
  NormPlacement norm_placement = NormPlacement::kPre;
  double norm_eps = 1e-6;
  LayerSpec residual{"prenorm", {}};
  double embedding_scale = 1;
  bool embedding_norm = false;  // after embedding_scale and positions
  int64_t positions = 0;        // rows of the learned position table, 0 = none
  int64_t meta_tokens = 0;      // they count as positions; windows of gqa, diff and hymba keep them
  double logit_scale = 1;
  double logit_softcap = 0;             // 0 = off
  int64_t max_position_embeddings = 0;  // 0 = unknown
  LayerSpec init{"normal", {}};
  uint64_t seed = 0;  // below 2^63, as TOML's whole numbers are
  bool operator==(const ModelSettings& other) const = default;
};

// Reads the text of a model.toml. Unset keys keep their defaults and nothing is checked across
// keys: flags may still change it. Strict: an unknown key, a key with its synonym, a value of
// another type or out of range throws Error(kUsage) with `source`, line, key, value and what would
// be right; text that is no TOML, Error(kBadInput).
ModelSettings parse_settings(std::string_view toml, std::string_view source = "model.toml");

// The canonical text: every key that is set, in a fixed order. parse_settings(print_settings(s)) ==
// s where s.stack is canonical.
std::string print_settings(const ModelSettings& settings);

// "attnres{block_sublayers=4}" -> name and options; `key` names the setting in errors.
LayerSpec parse_named(std::string_view text, std::string_view key);
std::string print_named(const LayerSpec& named);

// Fills heads and head_dim in and checks what must fit together; throws Error(kUsage) with the
// values. The stack's and the residual's own options are checked by those who make them.
ModelSettings resolved(ModelSettings settings);

// clang-format off
// Standard deviations of fresh weights for a stack of `sublayers` executed sub-layers.
//   normal{std=0.02}  `std`, projections into the residual stream std / sqrt(sublayers) (GPT-2)
//   small             sqrt(2 / (5 width)) (arXiv 1910.05895) and 4 / (sublayers sqrt(width)) (arXiv 2204.06745)
//   fan_in            1 / sqrt(width), into the stream 1 / sqrt(width sublayers), embedding `embed` (0.02):
//                     keeps the size of activations as the width grows (after arXiv 2203.03466)
// clang-format on
struct InitStd {
  double weight = 0;
  double output = 0;
  double embedding = 0;
};
InitStd init_std(const ModelSettings& settings, int64_t sublayers);

// All mixers, channels and memories there are: for parse_stack.
std::vector<KnownLayer> known_layers();

}  // namespace braid

#include "braid/importers/hf_rope.h"

#include <cmath>
#include <optional>
#include <string>

#include "braid/base/format.h"
#include "braid/ops/rope_scaling.h"

namespace braid {
namespace {

double yarn_factor(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

// The number that `apply` makes `wanted` of, the shortest of those next to `guess`: what was read
// from a config is mostly a short one.
template <typename Apply>
std::optional<double> found_again(double guess, double wanted, Apply apply) {
  for (const double digits : {1.0, 1e1, 1e2, 1e4, 1e6, 1e9, 1e12}) {
    const double rounded = std::round(guess * digits) / digits;
    if (apply(rounded) == wanted) return rounded;
  }
  double below = guess, above = guess;
  for (int step = 0; step < 8; ++step) {
    if (apply(below) == wanted) return below;
    if (apply(above) == wanted) return above;
    below = std::nextafter(below, 0.0);
    above = std::nextafter(above, HUGE_VAL);
  }
  return std::nullopt;
}

// The factor of scores that mla's `scale` has in it: M(mscale_all_dim), squared.
std::optional<double> all_dim(const ShownLayer& layer, double factor) {
  const double scale = layer.real("scale", 0);
  if (layer.name != "mla" || scale == 0 || factor <= 1) return std::nullopt;
  const double plain = 1 / std::sqrt(static_cast<double>(layer.integer("qk_nope_head_dim", 0) +
                                                         layer.integer("qk_rope_head_dim", 0)));
  const double guess = (std::sqrt(scale / plain) - 1) / (0.1 * std::log(factor));
  const auto found = found_again(guess, scale, [&](double mscale) {
    const double m = yarn_factor(factor, mscale);
    return plain * m * m;
  });
  if (!found) homeless(format("scale={} of mla is no YaRN factor of its heads", scale));
  return found;
}

// Whole numbers as such, for some readers want them so.
Json tokens(double n) {
  return n == std::floor(n) && n < 0x1p53 ? Json(static_cast<int64_t>(n)) : Json(n);
}

void put_yarn(const ShownLayer& layer, const RopeScaling& s, Json& c) {
  c.set("original_max_position_embeddings", tokens(s.original));
  c.set("beta_fast", s.fast);
  c.set("beta_slow", s.slow);
  if (!s.truncate) c.set("truncate", false);
  if (const std::optional<double> all = all_dim(layer, s.factor)) {
    const double whole = yarn_factor(s.factor, *all);
    const double guess = (s.attention_factor * whole - 1) / (0.1 * std::log(s.factor));
    const auto one =
        found_again(s.attention_factor == 1 ? *all : guess, s.attention_factor,
                    [&](double mscale) { return yarn_factor(s.factor, mscale) / whole; });
    if (!one) homeless(format("{} is no YaRN factor", s.attention_factor));
    c.set("mscale", *one);
    c.set("mscale_all_dim", *all);
  } else if (s.attention_factor != yarn_factor(s.factor, 1)) {
    c.set("attention_factor", s.attention_factor);
  }
}

}  // namespace

void put_rope_scaling(const ShownModel& m, const ShownLayer& layer, Json& c) {
  using Kind = RopeScaling::Kind;
  const std::string text = layer.get("rope_scaling", "none");
  if (text.starts_with("longrope"))
    homeless("longrope's factors are a word of families that braid does not write");
  constexpr int64_t kSomeRotary = 4;  // the layer itself has checked the text by its own
  const RopeScaling s = parse_rope_scaling(layer.name, text, kSomeRotary);
  if (s.kind == Kind::kNone) return;
  const std::string name = text.substr(0, text.find(':'));
  Json out = Json::object({{"rope_type", name}, {"factor", s.factor}});
  if (s.kind == Kind::kDynamic && tokens(s.original) != Json(m.settings.max_position_embeddings))
    out.set("original_max_position_embeddings", tokens(s.original));
  if (s.kind == Kind::kLlama3) {
    out.set("low_freq_factor", s.low);
    out.set("high_freq_factor", s.high);
    out.set("original_max_position_embeddings", tokens(s.original));
  }
  if (s.kind == Kind::kYarn) put_yarn(layer, s, out);
  c.set("rope_scaling", out);
}

}  // namespace braid

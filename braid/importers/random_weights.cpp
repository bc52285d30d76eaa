#include "braid/importers/random_weights.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/base/strings.h"
#include "braid/core/parallel.h"

namespace braid {

namespace {

// Their classes draw embeddings from initializer_range and leave matrices to PyTorch's default.
constexpr std::string_view kOwnMatrices[] = {"mamba", "falcon_mamba", "mamba2", "nemotron_h"};

// The parameter, by the end of its name, that a depth rule is about.
bool into_stream(const std::string& name) {
  return name.ends_with(".out_proj.weight") || name.ends_with(".o_proj.weight") ||
         name.ends_with(".down_proj.weight");
}

}  // namespace

RandomSpread random_spread(const Json& config, const ReadConfig& read, const std::string& source) {
  const Json* text = config.find("text_config");
  const Json& own = text != nullptr && text->is_object() ? *text : config;
  const auto find = [&](const char* key) {
    const Json* v = own.find(key);
    return v == nullptr || v->is_null() ? nullptr : v;
  };
  RandomSpread out;
  const std::string_view family = read.family->name;
  const bool leaves =
      std::find(std::begin(kOwnMatrices), std::end(kOwnMatrices), family) != std::end(kOwnMatrices);
  if (const Json* range = find("initializer_range")) {
    const double std = range->is_number() ? range->as_real() : 0;
    if (!(std > 0 && std <= 1e3))
      throw Error(ErrorKind::kBadInput, format("{}: initializer_range is {}, not a positive number",
                                               source, printable(range->dump())));
    out.embeddings = std;
    out.vectors = std::min(out.vectors, std);
    if (!leaves) out.matrices = std;
  }
  const Json* rescale = find("rescale_prenorm_residual");
  const double layers = static_cast<double>(read.model.layers);
  if (leaves && rescale != nullptr && rescale->kind() == Json::Kind::kBool && rescale->as_bool())
    out.into_stream = 1 / std::sqrt(layers);
  if (family == "gpt2") out.into_stream = 1 / std::sqrt(2 * layers);
  return out;
}

void fill_random(const Context& ctx, Model& model, uint64_t seed, const RandomSpread& spread,
                 const ByteProgress& progress) {
  uint64_t done = 0;
  const uint64_t all = model.parameters().bytes();
  for (Parameter& p : model.parameters()) {
    const bool matrix = p.role == ParamRole::kMatrix || p.role == ParamRole::kEmbedding;
    double std = spread.vectors;
    if (p.role == ParamRole::kEmbedding) std = spread.embeddings;
    if (p.role == ParamRole::kMatrix) {
      std = spread.matrices.value_or(1 / std::sqrt(static_cast<double>(p.value.size(-1))));
      if (into_stream(p.name)) std *= spread.into_stream;
    }
    const Rng rng(seed, "random/" + p.name);
    float* x = p.value.data();
    parallel_for(ctx, p.value.count(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double noise = std * rng.normal(static_cast<uint64_t>(i));
        // Vectors stay around what they begin at: norms at one, decays in their range.
        x[i] = static_cast<float>(matrix ? noise : static_cast<double>(x[i]) + noise);
      }
    });
    done += p.bytes();
    if (progress) progress(done, all);
  }
}

HfExported write_random_checkpoint(const Context& ctx, const std::string& folder,
                                   const std::string& to, const std::string& dtype, uint64_t seed,
                                   uint64_t shard_bytes, const ByteProgress& filling,
                                   const ByteProgress& writing) {
  const std::string path = join_path(folder, "config.json");
  const Json config = load_config(path);
  ReadConfig read = read_config(config, path);
  read.model.settings.seed = seed & INT64_MAX;
  Model model(ctx, read.model.settings);
  fill_random(ctx, model, seed, random_spread(config, read, path), filling);
  const TensorMap map = export_map(read.model, model.parameters());
  return export_hf({&model,
                    &map,
                    config,
                    [&](const std::string&) { return dtype; },
                    folder,
                    {},
                    Json::object(),
                    writing},
                   to, shard_bytes);
}

}  // namespace braid

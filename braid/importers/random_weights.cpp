#include "braid/importers/random_weights.h"

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/rng.h"
#include "braid/core/parallel.h"

namespace braid {

void fill_random(const Context& ctx, Model& model, uint64_t seed, const ByteProgress& progress) {
  uint64_t done = 0;
  const uint64_t all = model.parameters().bytes();
  for (Parameter& p : model.parameters()) {
    const bool matrix = p.role == ParamRole::kMatrix || p.role == ParamRole::kEmbedding;
    const double in = static_cast<double>(p.value.size(-1));
    const double spread = !matrix ? 0.1 : p.role == ParamRole::kEmbedding ? 1.0 : 1 / std::sqrt(in);
    const Rng rng(seed, "random/" + p.name);
    float* x = p.value.data();
    parallel_for(ctx, p.value.count(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double noise = spread * rng.normal(static_cast<uint64_t>(i));
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
  fill_random(ctx, model, seed, filling);
  const TensorMap map = export_map(read.model, model.parameters());
  return export_hf(
      {&model, &map, config, [&](const std::string&) { return dtype; }, folder, {}, writing}, to,
      shard_bytes);
}

}  // namespace braid

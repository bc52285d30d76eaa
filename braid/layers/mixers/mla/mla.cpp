#include <vector>

#include "braid/layers/mixer.h"
#include "braid/layers/mixers/latent_mixer.h"

namespace braid {
namespace {

class Mla final : public LatentMixer {
 public:
  Mla(LatentOptions config, const MlaShape& s, const LayerEnv& env, ParamBuilder& params)
      : LatentMixer(s, env, params), config_(std::move(config)) {}

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    return std::make_unique<LatentKv>(ctx, shape().rank, shape().rope, options.kv);
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return LatentKv::bytes_at(shape().rank, shape().rope, tokens, options.kv);
  }
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    return static_cast<size_t>(tokens) *
           LatentKv::row_bytes(shape().rank, shape().rope, options.kv);
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return positions_of(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    return MlaRef(shape(), reference_weights(params))(x, tokens);
  }

 private:
  Tensor attend(const Context& ctx, const Tensor&, const Parts& parts, const Batch& batch,
                States states) override {
    if (states.empty()) return expanded(ctx, parts, batch);
    std::vector<LatentView> views;
    for (size_t s = 0; s < states.size(); ++s) {
      auto* state = dynamic_cast<LatentKv*>(states[s]);
      BRAID_CHECK(state != nullptr);
      append(ctx, parts, batch, static_cast<int64_t>(s), *state);
      views.push_back(state->view());
    }
    return latent_attention(ctx, latent_config(), parts.q, kv_b(), batch.seq_starts, views);
  }

  LatentOptions config_;
};

}  // namespace

std::unique_ptr<Layer> make_mla(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<LatentOptions>("mla", options);
  const MlaShape shape = resolve_latent("mla", config, env);
  return std::make_unique<Mla>(std::move(config), shape, env, params);
}

}  // namespace braid

#include "braid/cli/model_flags.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/importers/load.h"

namespace braid {

void ModelFlags::add(CLI::App& app) {
  app.add_option("--stack", stack,
                 "Stack expression, e.g. \"2 x (3 x (kda, swiglu), gqa, swiglu)\"")
      ->group("Model");
  app.add_option(
         "-m,--model", model,
         "model.toml, config.json, a folder that holds one, or a .gguf file; flags override it")
      ->group("Model");
  add_settings(app);
}

void ModelFlags::add_settings(CLI::App& app) {
  app.add_option("--width", width, "Hidden size (default 256)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->group("Model");
  app.add_option("--heads", heads, "Heads per mixer (default width / head-dim)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->group("Model");
  app.add_option("--head-dim", head_dim,
                 "Size of a head (default 64, 32 or 16, the first that divides the width)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->group("Model");
  app.add_option("--vocab", vocab, "Vocabulary (default 256: bytes)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31))
      ->group("Model");
  app.add_option("--residual", residual,
                 "Residual scheme: prenorm, attnres{block_sublayers=4} or normed{alpha=2,beta=1} "
                 "(default prenorm)")
      ->group("Model");
  app.add_option("--norm", norm, "rms_norm, rms_norm_1p or layer_norm (default rms_norm)")
      ->group("Model");
  app.add_option("--norm-placement", norm_placement,
                 "Norms before the layers, after them or both: pre, post or sandwich (default pre)")
      ->group("Model");
  app.add_option("--norm-eps", norm_eps, "Epsilon of the norms (default 1e-6)")->group("Model");
  app.add_option("--embedding-scale", embedding_scale,
                 "Embeddings are multiplied by it (default 1)")
      ->group("Model");
  app.add_option("--embedding-norm", embedding_norm,
                 "The model's norm is applied to the embeddings too: true or false (default false)")
      ->group("Model");
  app.add_option("--positions", positions, "Learned absolute positions, so many (default 0: none)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31))
      ->group("Model");
  app.add_option("--meta-tokens", meta_tokens,
                 "Learned rows before every sequence's first token (default 0: none)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 16))
      ->group("Model");
  app.add_option("--logit-scale", logit_scale, "Logits are multiplied by it (default 1)")
      ->group("Model");
  app.add_option("--logit-softcap", logit_softcap,
                 "Logits become cap tanh(logit / cap) (default 0: off)")
      ->group("Model");
  app.add_option("--init", init, "normal{std=0.02}, small or fan_in (default normal)")
      ->group("Model");
  app.add_option("--tie-embeddings", tie_embeddings,
                 "Embedding and head share one matrix: true or false (default true)")
      ->group("Model");
  app.add_option("--seed", seed, "Seed of initial weights, data order and sampling (default 0)");
}

bool ModelFlags::any() const { return !stack.empty() || !model.empty(); }

ModelSettings ModelFlags::settings(const std::string& expression) const {
  ModelFlags one = *this;
  one.stack = expression;
  return one.settings();
}

ModelSettings ModelFlags::settings() const {
  if (!any()) {
    throw Error(ErrorKind::kUsage,
                "no model given: use --stack \"EXPRESSION\" or --model model.toml");
  }
  ModelSettings s;
  if (!model.empty()) s = load_settings(model);
  if (!stack.empty()) s.stack = parse_stack(stack, known_layers());
  if (width) s.width = *width;
  if (s.width == 0) s.width = 256;
  if (heads) s.heads = *heads;
  if (head_dim) s.head_dim = *head_dim;
  if (vocab) s.vocab = *vocab;
  if (residual) s.residual = parse_named(*residual, "--residual");
  if (norm) s.norm = norm_kind(*norm);
  if (norm_placement) s.norm_placement = braid::norm_placement(*norm_placement);
  if (norm_eps) s.norm_eps = *norm_eps;
  if (embedding_scale) s.embedding_scale = *embedding_scale;
  if (embedding_norm) s.embedding_norm = *embedding_norm;
  if (positions) s.positions = *positions;
  if (meta_tokens) s.meta_tokens = *meta_tokens;
  if (logit_scale) s.logit_scale = *logit_scale;
  if (logit_softcap) s.logit_softcap = *logit_softcap;
  if (init) s.init = parse_named(*init, "--init");
  if (tie_embeddings) s.tie_embeddings = *tie_embeddings;
  if (seed) s.seed = *seed;
  return s;
}

std::vector<MemoryPart> training_parts(const TrainingNeed& need) {
  return {{"weights", need.weights},
          {"gradients", need.gradients},
          {"optimizer states", need.optimizer},
          {"activations", need.activations}};
}

}  // namespace braid

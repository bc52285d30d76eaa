#include "braid/stack/model.h"

#include "braid/base/format.h"
#include "braid/base/suggest.h"
#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"
#include "braid/ops/checkpoint.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/embedding.h"
#include "braid/ops/linear.h"
#include "braid/ops/prefix_rows.h"
#include "braid/ops/view.h"
#include "braid/stack/parallel_layer.h"

namespace braid {
namespace {

LayerEnv base_env(const ModelSettings& s, int64_t executed) {
  const InitStd std = init_std(s, executed);
  LayerEnv env;
  env.width = s.width;
  env.heads = s.heads;
  env.head_dim = s.head_dim;
  env.norm_eps = s.norm_eps;
  env.depth = executed;
  env.init_std = std.weight;
  env.out_init_std = std.output;
  env.meta_tokens = s.meta_tokens;
  return env;
}

// The error names the layer as it stands in the expression.
std::unique_ptr<Layer> make_layer(const LayerSpec& spec, const LayerEnv& env,
                                  ParamBuilder& params) {
  const LayerType* type = find_mixer(spec.name);
  if (type == nullptr) type = find_channel(spec.name);
  BRAID_CHECK(type != nullptr);  // parse_stack has checked the names
  try {
    return type->make(spec.options, env, params);
  } catch (Error& e) {
    throw e.add_context(spec.column > 0
                            ? format("stack expression, line {}, column {}", spec.line, spec.column)
                            : "stack expression");
  }
}

std::unique_ptr<Layer> make_leaf(const FlatStack::Leaf& made, const LayerEnv& env,
                                 const ParamBuilder& params) {
  const std::vector<LayerSpec>& leaf = made.layers;
  if (leaf.size() == 1) {
    ParamBuilder own = params.scope(leaf[0].name);
    return make_layer(leaf[0], env, own);
  }
  std::vector<std::unique_ptr<Layer>> branches;
  std::vector<std::string> scopes;
  for (size_t i = 0; i < leaf.size(); ++i) {
    const std::string scope = format("{}.{}", i, leaf[i].name);
    ParamBuilder own = params.scope(scope);
    branches.push_back(make_layer(leaf[i], env, own));
    scopes.push_back(scope + ".");
  }
  ParamBuilder shared = params;
  return std::make_unique<ParallelLayer>(made.join, std::move(branches), std::move(scopes), env,
                                         shared);
}

}  // namespace

Model::Model(const Context& ctx, const ModelSettings& settings, Fill fill)
    : settings_(resolved(settings)), flat_(flatten(settings_.stack)) {
  const ResidualType* residual = find_residual(settings_.residual.name);
  if (residual == nullptr) {
    std::vector<std::string_view> names;
    for (const ResidualType& t : residual_types()) names.push_back(t.name);
    throw Error(ErrorKind::kUsage,
                format("residual is '{}', which is not known{}", settings_.residual.name,
                       suggestion(settings_.residual.name, names)));
  }
  // Dry memory has no bytes and is not filled.
  Context memory = ctx;
  if (fill == Fill::kDeferred) memory.arena = Arena::create(Arena::Mode::kDry);
  ParamBuilder params(memory, parameters_, settings_.seed);
  const LayerEnv env = base_env(settings_, executed());
  const double embedding_std = init_std(settings_, executed()).embedding;
  embedding_ = &params.add("embed_tokens.weight", ParamRole::kEmbedding,
                           {settings_.vocab, settings_.width}, Init::normal(embedding_std));
  if (settings_.positions > 0) {
    positions_ = &params.add("embed_positions.weight", ParamRole::kEmbedding,
                             {settings_.positions, settings_.width}, Init::normal(embedding_std));
    positions_->keep_f32 = true;
  }
  if (settings_.meta_tokens > 0) {
    meta_tokens_ = &params.add("meta_tokens.weight", ParamRole::kEmbedding,
                               {settings_.meta_tokens, settings_.width}, Init::normal(1));
    meta_tokens_->keep_f32 = true;
  }
  if (settings_.embedding_norm) embedding_norm_ = Norm(settings_, params, "embed_norm");
  add_slots(params, env);
  ParamBuilder depth = params.scope("residual");
  residual_ = residual->make(settings_.residual.options, env, executed(), depth);
  if (residual_->takes_normed() && settings_.norm_placement == NormPlacement::kPost) {
    throw Error(ErrorKind::kUsage,
                format("residual = \"{}\" keeps what the norm before a layer gives, and "
                       "norm_placement = \"{}\" has none; use \"pre\" or \"sandwich\"",
                       settings_.residual.name, placement_name(settings_.norm_placement)));
  }
  final_norm_ = Norm(settings_, params, "norm");
  head_ = embedding_;
  if (!settings_.tie_embeddings) {
    head_ = &params.add("lm_head.weight", ParamRole::kEmbedding, {settings_.vocab, settings_.width},
                        Init::normal(embedding_std));
  }
}

void Model::add_slots(const ParamBuilder& params, LayerEnv env) {
  const NormPlacement where = settings_.norm_placement;
  LinkTable names;
  env.links = &names;
  for (size_t i = 0; i < flat_.layers.size(); ++i) {
    const FlatStack::Leaf& leaf = flat_.leaves[static_cast<size_t>(flat_.layers[i])];
    ParamBuilder own = params.scope(format("layers.{}", i));
    env.layer_index = static_cast<int64_t>(i);
    Slot slot;
    slot.name = leaf.name();
    if (where != NormPlacement::kPost) slot.before = Norm(settings_, own, "norm");
    const int64_t declared = names.declared(), read = names.read();
    slot.layer = make_leaf(leaf, env, own);
    slot.publishes = names.declared() > declared;
    slot.reads = names.read() > read;
    if (where != NormPlacement::kPre) slot.after = Norm(settings_, own, "post_norm");
    slots_.push_back(std::move(slot));
  }
}

std::string Model::canonical_stack() const {
  StackSpec spec = canonical(settings_.stack);
  // Leaves stand in the order of the text; the first layer made from each knows its canonical
  // options.
  std::vector<Layer*> maker(flat_.leaves.size(), nullptr);
  for (size_t i = flat_.layers.size(); i-- > 0;)
    maker[static_cast<size_t>(flat_.layers[i])] = slots_[i].layer.get();
  size_t leaf = 0;
  const auto rewrite = [&](auto& self, std::vector<StackItem>& items) -> void {
    for (StackItem& item : items) {
      self(self, item.items);
      if (item.layers.empty()) continue;
      Layer* made = maker[leaf++];
      if (item.layers.size() == 1) {
        item.layers[0].options = made->options();
        continue;
      }
      const auto& branches = static_cast<ParallelLayer*>(made)->branches();
      for (size_t b = 0; b < branches.size(); ++b) item.layers[b].options = branches[b]->options();
    }
  };
  rewrite(rewrite, spec.items);
  return print_stack(spec);
}

void Model::run_sublayer(const Context& ctx, size_t step, ResidualRun& run, const Batch& batch,
                         std::span<SequenceState* const> sequences) {
  Slot& slot = slots_[static_cast<size_t>(flat_.steps[step].layer)];
  const int64_t index = static_cast<int64_t>(step);
  std::vector<LayerState*> states;
  for (SequenceState* s : sequences) {
    if (s->layers[step]) states.push_back(s->layers[step].get());
  }
  Tensor x = run.input(ctx, index);
  // Where the residual stream takes the normed value, its norm is not part of what is recomputed.
  const bool normed = residual_->takes_normed();
  if (normed) {
    const Tensor n = slot.before(ctx, x);
    run.normed(ctx, index, n);
    x = reshape(ctx, n, n.shape());  // the layer's gradients are summed before the stream's joins
  }
  const auto body = [&slot, normed](const Context& c, const Tensor& in, const Batch& b, States st) {
    return slot.after(c, slot.layer->forward(c, normed ? in : slot.before(c, in), b, st));
  };
  // What a layer hands to others must stay on the tape, so it is not run a second time.
  if (!recompute_ || ctx.tape == nullptr || slot.publishes || slot.reads) {
    run.output(ctx, index, body(ctx, x, batch, states));
    return;
  }
  run.output(ctx, index, checkpoint(ctx, x, [body, batch](const Context& c, const Tensor& in) {
               return body(c, in, batch, {});
             }));
}

Model::Begun Model::with_meta_tokens(const Batch& batch) const {
  Begun out{batch, std::vector<bool>(static_cast<size_t>(batch.sequences()), false)};
  if (meta_tokens_ == nullptr) return out;
  const int64_t n = settings_.meta_tokens;
  int64_t added = 0;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    const auto at = static_cast<size_t>(s);
    out.begins[at] = batch.offsets[at] == 0 && batch.length(s) > 0;
    if (!out.begins[at] && batch.offsets[at] > 0) out.batch.offsets[at] += n;
    if (out.begins[at]) added += n;
    out.batch.seq_starts[at + 1] += added;
  }
  for (int64_t& tokens : out.batch.contexts) tokens += n;
  return out;
}

Tensor Model::embed(const Context& ctx, std::span<const int32_t> ids, const Batch& batch,
                    const std::vector<bool>& begins) {
  Tensor x =
      scale(ctx, embedding(ctx, ids, *embedding_), static_cast<float>(settings_.embedding_scale));
  if (meta_tokens_ != nullptr) x = with_prefix(ctx, x, *meta_tokens_, batch.seq_starts, begins);
  if (positions_ == nullptr) return embedding_norm_(ctx, x);
  std::vector<int32_t> at;
  for (int64_t s = 0; s < batch.sequences(); ++s) {
    const int64_t begin = batch.offsets[static_cast<size_t>(s)], end = begin + batch.length(s);
    if (end > settings_.positions) {
      throw Error(ErrorKind::kBadInput,
                  format("a sequence of {} tokens is longer than the {} learned positions", end,
                         settings_.positions));
    }
    for (int64_t t = begin; t < end; ++t) at.push_back(static_cast<int32_t>(t));
  }
  return embedding_norm_(ctx, add(ctx, x, embedding(ctx, at, *positions_)));
}

Tensor Model::hidden(const Context& ctx, std::span<const int32_t> ids, const Batch& batch,
                     std::span<SequenceState* const> sequences) {
  BRAID_CHECK(static_cast<int64_t>(ids.size()) == batch.tokens());
  BRAID_CHECK(sequences.empty() || static_cast<int64_t>(sequences.size()) == batch.sequences());
  Begun begun = with_meta_tokens(batch);
  std::unique_ptr<ResidualRun> run = residual_->begin(ctx, embed(ctx, ids, batch, begun.begins));
  Links links;
  Batch linked = std::move(begun.batch);
  linked.links = &links;
  for (size_t step = 0; step < flat_.steps.size(); ++step) {
    run_sublayer(ctx, step, *run, linked, sequences);
  }
  links.finish();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const auto begin = ids.begin() + batch.seq_starts[s];
    sequences[s]->tokens.insert(sequences[s]->tokens.end(), begin,
                                ids.begin() + batch.seq_starts[s + 1]);
  }
  Tensor h = run->finish(ctx);
  if (meta_tokens_ != nullptr)
    h = without_prefix(ctx, h, settings_.meta_tokens, batch.seq_starts, begun.begins);
  return final_norm_(ctx, h);
}

Tensor Model::head_input(const Context& ctx, const Tensor& hidden) const {
  return scale(ctx, hidden, static_cast<float>(settings_.logit_scale));
}

Tensor Model::logits(const Context& ctx, const Tensor& hidden) {
  const Tensor z = linear(ctx, head_input(ctx, hidden), *head_);
  if (settings_.logit_softcap == 0) return z;
  return softcap(ctx, z, static_cast<float>(settings_.logit_softcap));
}

LossResult Model::loss(const Context& ctx, std::span<const int32_t> ids,
                       std::span<const int32_t> targets, const Batch& batch,
                       const LossConfig& config) {
  LossConfig own = config;
  BRAID_CHECK(config.softcap == 0);  // the model's own
  own.softcap = settings_.logit_softcap;
  return lm_loss(ctx, head_input(ctx, hidden(ctx, ids, batch)), *head_, targets, own);
}

SequenceState Model::new_sequence(const Context& ctx, const StateOptions& options) const {
  SequenceState s;
  for (const FlatStack::Step& step : flat_.steps) {
    s.layers.push_back(slots_[static_cast<size_t>(step.layer)].layer->make_state(ctx, options));
  }
  return s;
}

int64_t Model::idle_parameters() const {
  int64_t n = 0;
  for (const Slot& s : slots_) n += s.layer->idle_parameters();
  return n;
}

size_t Model::state_bytes(int64_t tokens, const StateOptions& options) const {
  size_t n = 0;
  if (tokens > 0) tokens += settings_.meta_tokens;
  for (const FlatStack::Step& step : flat_.steps) {
    n += slots_[static_cast<size_t>(step.layer)].layer->state_bytes(tokens, options);
  }
  return n;
}

size_t Model::state_read_bytes(int64_t tokens, const StateOptions& options) const {
  size_t n = 0;
  if (tokens > 0) tokens += settings_.meta_tokens;
  for (const FlatStack::Step& step : flat_.steps) {
    n += slots_[static_cast<size_t>(step.layer)].layer->state_read_bytes(tokens, options);
  }
  return n;
}

void Model::after_step(const Context& ctx) {
  for (Slot& slot : slots_) slot.layer->after_step(ctx);
}

std::vector<Model::SubLayer> Model::sublayers() const {
  std::vector<SubLayer> out;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const bool parallel = flat_.leaves[static_cast<size_t>(flat_.layers[i])].layers.size() > 1;
    const std::string path = format("layers.{}.", i);
    out.push_back({slots_[i].name, path, parallel ? path : path + slots_[i].name + ".",
                   slots_[i].layer.get(), slots_[i].reads});
  }
  return out;
}

}  // namespace braid

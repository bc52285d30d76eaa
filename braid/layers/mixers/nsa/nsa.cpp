#include <algorithm>
#include <cstring>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/attender.h"
#include "braid/layers/chooser.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/nsa/compressor.h"
#include "braid/layers/mixers/nsa/gated_sum.h"
#include "braid/layers/mixers/nsa/nsa_ref.h"
#include "braid/ops/attention.h"
#include "braid/ops/block_choice.h"
#include "braid/ops/chosen_attention.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/view.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/kv_state.h"

namespace braid {
namespace {

constexpr KvPaging kPaging{.tiles = 1};  // tiles are chosen
constexpr int64_t kQueries = 64;         // of a prefill whose choices are held at a time

struct NsaConfig {
  AttentionHeads heads;
  std::string compress = "mlp";  // or mean
  int64_t compress_block = 32;   // tokens of a compressed block
  int64_t compress_stride = 16;  // from one to the next
  int64_t compress_hidden = 0;   // of the network; 0: head_dim
  int64_t block = 64;            // tokens of a chosen block
  int64_t top_n = 16;            // blocks a token sees by choice
  int64_t window = 512;          // tokens of the sliding branch
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("compress", compress, std::string("mlp"));
    v.field("compress_block", compress_block, int64_t{32});
    v.field("compress_stride", compress_stride, int64_t{16});
    v.field("compress_hidden", compress_hidden, int64_t{0});
    v.field("block", block, int64_t{64});
    v.field("top_n", top_n, int64_t{16});
    v.field("window", window, int64_t{512});
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "nsa: " + message);
}

void check_sizes(const NsaConfig& c) {
  for (const auto& [key, value] : {std::pair("compress_block", c.compress_block),
                                   {"compress_stride", c.compress_stride},
                                   {"block", c.block},
                                   {"top_n", c.top_n},
                                   {"window", c.window}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  if (c.top_n < kAlwaysChosen) {
    usage(
        format("top_n={} is fewer than the {} blocks that are always chosen: the first, the "
               "token's own and the one before",
               c.top_n, kAlwaysChosen));
  }
  if (c.compress_block % c.compress_stride != 0)
    usage(format("compress_block={} is not a multiple of compress_stride={}", c.compress_block,
                 c.compress_stride));
  if (c.block % c.compress_stride != 0)
    usage(format("block={} is not a multiple of compress_stride={}", c.block, c.compress_stride));
  if (c.compress_block > c.block)
    usage(format("compress_block={} is more than block={}", c.compress_block, c.block));
}

NsaShape resolve(const NsaConfig& c, const LayerEnv& env) {
  NsaShape s{c.heads.resolved("nsa", env)};
  s.require_pairs("nsa");
  check_sizes(c);
  if (c.compress != "mlp" && c.compress != "mean")
    usage(format("compress={} is neither mlp nor mean", c.compress));
  s.learned = c.compress == "mlp";
  if (c.compress_hidden < 0) usage(format("compress_hidden={} is negative", c.compress_hidden));
  if (!s.learned && c.compress_hidden != 0)
    usage(format("compress_hidden={} is the network's, but compress=mean", c.compress_hidden));
  s.width = env.width;
  s.compressed = {c.compress_block, c.compress_stride};
  s.hidden = c.compress_hidden > 0 ? c.compress_hidden : s.head_dim;
  s.block = c.block;
  s.top = c.top_n;
  s.window = c.window;
  return s;
}

// What the branches attend with and to.
struct Heads {
  Tensor q, k, v;  // q and k turned by position
  Tensor plain;    // keys as blocks are compressed from them
};

// What is kept of a sequence.
struct Kept {
  explicit Kept(LayerState& state) : group(dynamic_cast<GroupState&>(state)) {}
  GroupState& group;
  GrowingKv& kv() const { return dynamic_cast<GrowingKv&>(group.member(0)); }
  GrowingKv& compressed() const { return dynamic_cast<GrowingKv&>(group.member(1)); }
  ConvState& tail() const { return dynamic_cast<ConvState&>(group.member(2)); }
};

class Nsa final : public Layer, public Attender, public Chooser {
 public:
  Nsa(NsaConfig config, const NsaShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        shape_(s),
        inputs_{&params.matrix("q_proj.weight", s.heads * s.head_dim, env.width, env.init_std),
                &params.matrix("k_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.matrix("v_proj.weight", s.kv_heads * s.head_dim, env.width, env.init_std),
                &params.gate_matrix("g_proj.weight", 3 * s.heads, env.width, env.init_std)},
        compressor_(s, env, params),
        o_(params.matrix("o_proj.weight", env.width, s.heads * s.head_dim, env.out_init_std)) {}

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), d = shape_.head_dim;
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    Heads h{reshape(ctx, in[0], {tokens, shape_.heads, d}),
            reshape(ctx, in[1], {tokens, shape_.kv_heads, d}),
            reshape(ctx, in[2], {tokens, shape_.kv_heads, d}),
            {}};
    h.plain = h.k;
    if (shape_.rope) {
      const RopeConfig rotation = shape_.rotation();
      const Tensor table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets);
      h.q = rope(ctx, rotation, h.q, table);
      h.k = rope(ctx, rotation, h.k, table);
    }
    if (!shape_.learned) h.plain = h.k;
    const std::array<Tensor, 3> o =
        states.empty() ? over_batch(ctx, h, batch) : over_states(ctx, h, batch, states);
    const Tensor y = gated_sum(ctx, o, in[3]);
    return linear(ctx, reshape(ctx, y, {tokens, shape_.heads * d}), o_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(std::make_unique<GrowingKv>(ctx, kv_shape(), options.kv, kPaging));
    members.push_back(
        std::make_unique<GrowingKv>(ctx, kv_shape(), KvType::kF32, compressed_paging()));
    // The last tokens, of which blocks that are not whole yet will be made: keys, then values.
    members.push_back(std::make_unique<ConvState>(ctx, shape_.compressed.block, 2 * row()));
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return GrowingKv::bytes_at(kv_shape(), tokens, options.kv, kPaging) +
           GrowingKv::bytes_at(kv_shape(), tokens, KvType::kF32, compressed_paging()) +
           tail_bytes();
  }
  // All compressed blocks; the window with the two nearest blocks, which are always chosen, and
  // the others outside of it.
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    const int64_t near = std::max(shape_.window - 1, tokens % shape_.block + shape_.block);
    const int64_t seen = std::min(tokens, near + (shape_.top - 2) * shape_.block);
    const auto rows = [&](int64_t n, KvType type) {
      return static_cast<size_t>(n) * kv_shape().row_bytes(type);
    };
    return rows(seen, options.kv) + rows(shape_.compressed.whole(tokens), KvType::kF32) +
           tail_bytes();
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return config_.heads.positions(shape_.window); }

  int64_t sees() const override { return shape_.block * shape_.top; }
  // A compressed block is never longer than a chosen one.
  std::unique_ptr<Layer> narrowed() const override {
    auto small = std::make_unique<Nsa>(*this);
    small->config_.block = small->shape_.block = shape_.compressed.block;
    small->config_.top_n = small->shape_.top = std::min(shape_.top, kAlwaysChosen + 1);
    small->config_.window = small->shape_.window = std::min(shape_.window, small->shape_.block);
    return small;
  }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return NsaRef(shape_, params)(x);
  }

 private:
  int64_t row() const { return shape_.kv_heads * shape_.head_dim; }
  size_t tail_bytes() const {
    return static_cast<size_t>((shape_.compressed.block - 1) * 2 * row()) * sizeof(float);
  }
  KvShape kv_shape() const { return {.heads = shape_.kv_heads, .head_dim = shape_.head_dim}; }
  KvPaging compressed_paging() const { return {.tiles = 1, .blocks = shape_.compressed}; }

  AttentionConfig attention_config(int64_t window) const {
    return {shape_.heads, shape_.kv_heads, shape_.head_dim, static_cast<float>(shape_.scale()),
            window};
  }

  // The compressed blocks that n tokens at positions from `first` on see whole.
  KeyRuns seen_blocks(int64_t first, int64_t n, int64_t sets) const {
    KeyRuns seen;
    seen.sets = sets;
    seen.starts.push_back(0);
    for (int64_t i = 0; i < n * sets; ++i) {
      const int64_t whole = shape_.compressed.whole(first + i / sets + 1);
      if (whole > 0) seen.runs.push_back({0, static_cast<int32_t>(whole)});
      seen.starts.push_back(std::ssize(seen.runs));
    }
    return seen;
  }

  // What queries [n, H, d] at positions from `first` on attend to by choice.
  KeyRuns choose(const Context& ctx, const Tensor& q, int64_t first,
                 const KvView& compressed) const {
    return runs_of_blocks(choose_important_blocks(ctx, attention_config(0), q, first, compressed,
                                                  shape_.compressed, shape_.block, shape_.top),
                          shape_.kv_heads, first, shape_.block);
  }

  std::array<Tensor, 3> over_batch(const Context& ctx, const Heads& h, const Batch& batch) const {
    const auto [keys, values] = compressor_(ctx, h.plain, h.v, batch.seq_starts, batch.offsets);
    Context plain = ctx;
    plain.tape = nullptr;
    KeyRuns blocks, chosen;
    std::vector<int64_t> block_starts = {0};
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      const int64_t before = block_starts.back(), whole = shape_.compressed.whole(n);
      append_runs(seen_blocks(0, n, 1), blocks);
      GrowingKv own(plain, kv_shape());
      own.append(plain, keys.data() + before * row(), row(), values.data() + before * row(), row(),
                 whole);
      append_runs(choose(plain, h.q.narrow(0, first, n), 0, own.view()), chosen);
      block_starts.push_back(before + whole);
    }
    const AttentionConfig c = attention_config(0);
    const Tensor o_cmp = keys.size(0) == 0 ? Tensor::zeros(ctx, h.q.shape())
                                           : chosen_attention(ctx, c, h.q, keys, values, blocks,
                                                              batch.seq_starts, block_starts);
    return {o_cmp,
            chosen_attention(ctx, c, h.q, h.k, h.v, chosen, batch.seq_starts, batch.seq_starts),
            attention(ctx, attention_config(shape_.window), h.q, h.k, h.v, batch.seq_starts)};
  }

  // Compresses the blocks that become whole with this call's tokens, and keeps the last tokens.
  void keep_blocks(const Context& ctx, const Heads& h, const Batch& batch, States states) const {
    const KvBlocks blocks = shape_.compressed;
    std::vector<int64_t> starts = {0}, begins;
    for (size_t s = 0; s < states.size(); ++s) {
      begins.push_back(blocks.whole(batch.offsets[s]) * blocks.stride);
      starts.push_back(starts.back() + batch.offsets[s] - begins.back() +
                       batch.length(static_cast<int64_t>(s)));
    }
    // Of every sequence the tokens from its first unfinished block on: kept ones, then new ones.
    const Shape shape = {starts.back(), shape_.kv_heads, shape_.head_dim};
    const std::array<Tensor, 2> rows = {Tensor::empty(ctx, shape), Tensor::empty(ctx, shape)};
    for (size_t s = 0; s < states.size() && !ctx.dry(); ++s) {
      const int64_t n = batch.length(static_cast<int64_t>(s)), old = batch.offsets[s] - begins[s];
      const Tensor& tail = Kept(*states[s]).tail().window();
      const float* kept = tail.data() + (tail.size(0) - old) * 2 * row();
      for (size_t i = 0; i < 2; ++i) {
        const Tensor& fresh = i == 0 ? h.plain : h.v;
        float* to = rows[i].data() + starts[s] * row();
        for (int64_t t = 0; t < old; ++t, to += row())
          std::copy_n(kept + (2 * t + static_cast<int64_t>(i)) * row(), row(), to);
        std::copy_n(fresh.data() + batch.seq_starts[s] * row(), n * row(), to);
      }
    }
    const auto [keys, values] = compressor_(ctx, rows[0], rows[1], starts, begins);
    int64_t before = 0;
    for (size_t s = 0; s < states.size(); ++s) {
      const Kept kept(*states[s]);
      const int64_t whole = blocks.whole(starts[s + 1] - starts[s]);
      kept.compressed().append(ctx, keys.data() + before * row(), row(),
                               values.data() + before * row(), row(), whole);
      before += whole;
      keep_tail(ctx, h, batch.seq_starts[s], batch.length(static_cast<int64_t>(s)), kept.tail());
    }
  }

  // The window moves on by n tokens, rows of the batch from `first` on.
  void keep_tail(const Context& ctx, const Heads& h, int64_t first, int64_t n,
                 ConvState& tail) const {
    tail.advance(n);
    if (ctx.dry()) return;
    const int64_t size = tail.window().size(0), old = std::max<int64_t>(0, size - n);
    float* rows = tail.window().data();
    std::memmove(rows, rows + (size - old) * 2 * row(),
                 static_cast<size_t>(old * 2 * row()) * sizeof(float));
    for (int64_t i = old; i < size; ++i) {
      const int64_t from = (first + n - size + i) * row();
      std::copy_n(h.plain.data() + from, row(), rows + i * 2 * row());
      std::copy_n(h.v.data() + from, row(), rows + (i * 2 + 1) * row());
    }
  }

  // A file's members can disagree.
  void check_lengths(const Kept& kept, int64_t tokens) const {
    const int64_t blocks = shape_.compressed.whole(tokens);
    if (kept.compressed().length() == blocks && kept.tail().length() == tokens) return;
    throw Error(ErrorKind::kBadInput,
                format("a state of nsa has {} compressed blocks and a tail of {} tokens; its {} "
                       "tokens make {} blocks",
                       kept.compressed().length(), kept.tail().length(), tokens, blocks));
  }

  std::array<Tensor, 3> over_states(const Context& ctx, const Heads& h, const Batch& batch,
                                    States states) const {
    std::vector<KvView> views;
    for (size_t s = 0; s < states.size(); ++s) {
      const Kept kept(*states[s]);
      GrowingKv& kv = kept.kv();
      const int64_t at = batch.seq_starts[s] * row();
      BRAID_CHECK(kv.length() == batch.offsets[s]);
      check_lengths(kept, batch.offsets[s]);
      kv.append(ctx, h.k.data() + at, row(), h.v.data() + at, row(),
                batch.length(static_cast<int64_t>(s)));
      views.push_back(kv.view());
    }
    keep_blocks(ctx, h, batch, states);
    std::array<Tensor, 3> out = {
        Tensor::empty(ctx, h.q.shape()), Tensor::empty(ctx, h.q.shape()),
        attention_cached(ctx, attention_config(shape_.window), h.q, batch.seq_starts, views)};
    const int64_t each = shape_.heads * shape_.head_dim;
    for (size_t s = 0; s < states.size(); ++s) {
      const KvView compressed = Kept(*states[s]).compressed().view();
      const int64_t n = batch.length(static_cast<int64_t>(s));
      for (int64_t at = 0; at < n; at += kQueries) {
        const int64_t first = batch.seq_starts[s] + at, position = batch.offsets[s] + at;
        const Tensor some = h.q.narrow(0, first, std::min(kQueries, n - at));
        const Tensor o[] = {
            chosen_attention_kept(ctx, attention_config(0), some, compressed,
                                  seen_blocks(position, some.size(0), shape_.kv_heads)),
            chosen_attention_kept(ctx, attention_config(0), some, views[s],
                                  choose(ctx, some, position, compressed))};
        for (size_t b = 0; b < 2 && !ctx.dry(); ++b)
          std::copy_n(o[b].data(), o[b].count(), out[b].data() + first * each);
      }
    }
    return out;
  }

  NsaConfig config_;
  NsaShape shape_;
  std::vector<Parameter*> inputs_;  // q, k, v, gates
  NsaCompressor compressor_;
  Parameter& o_;
};

}  // namespace

std::unique_ptr<Layer> make_nsa(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<NsaConfig>("nsa", options);
  const NsaShape shape = resolve(config, env);
  return std::make_unique<Nsa>(std::move(config), shape, env, params);
}

}  // namespace braid

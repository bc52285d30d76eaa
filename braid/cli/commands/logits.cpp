// Logits of given tokens, for cross-checking against anything.

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/cli/command.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/cli/run_model.h"
#include "braid/formats/safetensors.h"
#include "braid/infer/generate.h"
#include "braid/text/token_list.h"

namespace braid {
namespace {

constexpr int64_t kShown = 5;  // best tokens of a position

struct Flags {
  std::string model, tokens, tokens_file, out;
  std::vector<int64_t> chunks;
  bool step = false;
  LoadFlags load;
  CommonFlags common;
};

// Lengths of the pieces the tokens are fed in.
std::vector<int64_t> pieces_of(const Flags& f, int64_t tokens) {
  if (f.step && !f.chunks.empty())
    throw Error(ErrorKind::kUsage, "--chunks and --step are both given; use one");
  if (f.step) return std::vector<int64_t>(static_cast<size_t>(tokens), 1);
  std::vector<int64_t> out = f.chunks;
  int64_t left = tokens;
  for (const int64_t n : out) {
    if (n < 1 || n > left)
      throw Error(ErrorKind::kUsage,
                  format("--chunks: a piece of {} tokens where {} are left", n, left));
    left -= n;
  }
  if (out.empty()) {  // as prefill cuts them
    out.assign(static_cast<size_t>(left / kPrefillChunk), kPrefillChunk);
    if (left % kPrefillChunk > 0) out.push_back(left % kPrefillChunk);
    return out;
  }
  // What the pieces leave comes one by one.
  out.insert(out.end(), static_cast<size_t>(left), 1);
  return out;
}

// [T, vocab]
Tensor all_logits(const Context& ctx, Model& model, const std::vector<int32_t>& ids,
                  const std::vector<int64_t>& pieces) {
  const int64_t vocab = model.settings().vocab;
  Tensor out = Tensor::empty(ctx, {std::ssize(ids), vocab});
  SequenceState sequence = model.new_sequence(ctx);
  SequenceState* const one[] = {&sequence};
  WorkProgress work;
  const WorkProgress::Tick tick = work.counts("reading", "tokens");
  int64_t at = 0;
  for (const int64_t n : pieces) {
    Batch batch;
    batch.seq_starts = {0, n};
    batch.offsets = {at};
    batch.contexts = {std::ssize(ids)};
    const Tensor h = model.hidden(
        ctx, std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(n)), batch, one);
    const Tensor logits = model.logits(ctx, h);
    std::copy_n(logits.data(), logits.count(), out.data() + at * vocab);
    at += n;
    tick(static_cast<uint64_t>(at), ids.size());
  }
  work.finish();
  return out;
}

std::vector<int64_t> best(const float* row, int64_t vocab) {
  std::vector<int64_t> ids(static_cast<size_t>(vocab));
  std::iota(ids.begin(), ids.end(), 0);
  const auto n = static_cast<std::ptrdiff_t>(std::min(vocab, kShown));
  std::partial_sort(ids.begin(), ids.begin() + n, ids.end(), [&](int64_t a, int64_t b) {
    return row[a] > row[b] || (row[a] == row[b] && a < b);
  });
  ids.resize(static_cast<size_t>(n));
  return ids;
}

void show(const Flags& f, const std::vector<int32_t>& ids, const Tensor& logits) {
  const int64_t vocab = logits.size(1);
  for (int64_t t = 0; t < logits.size(0); ++t) {
    const float* row = logits.data() + t * vocab;
    Json top = Json::array();
    std::string line;
    for (const int64_t id : best(row, vocab)) {
      top.push(Json::object({{"id", id}, {"logit", row[id]}}));
      line += format("  {:>7} {:9.4f}", id, row[id]);
    }
    const int32_t token = ids[static_cast<size_t>(t)];
    if (f.common.json) {
      const Json out = Json::object({{"position", t}, {"token", token}, {"top", top}});
      std::puts(out.dump().c_str());
    } else {
      std::printf("%5zd  token %-7d%s\n", static_cast<ssize_t>(t), token, line.c_str());
    }
  }
}

int run(const Flags& f) {
  if (f.tokens.empty() == f.tokens_file.empty())
    throw Error(ErrorKind::kUsage, "give the tokens with --tokens or with --tokens-file");
  require_output_file("--out", f.out);
  const Context ctx = f.common.context();
  std::vector<int32_t> ids;
  std::vector<int64_t> pieces;
  // The tokens are read once the vocabulary is known, before the weights are.
  const auto work = [&](const LoadedModel& loaded) {
    const int64_t vocab = loaded.model->settings().vocab;
    ids = f.tokens.empty()
              ? read_tokens(read_file(f.tokens_file, size_t{1} << 26), f.tokens_file, vocab)
              : read_tokens(f.tokens, "--tokens", vocab);
    pieces = pieces_of(f, std::ssize(ids));
    const int64_t rows = std::ssize(ids) + *std::max_element(pieces.begin(), pieces.end());
    return Workload{std::ssize(ids), 0, {}, static_cast<size_t>(rows * vocab) * sizeof(float)};
  };
  LoadOptions options = f.load.options(f.common, work);
  if (!options.before_fill)
    options.before_fill = [&](const LoadedModel& loaded, std::span<const WeightType>) {
      work(loaded);
    };
  const std::unique_ptr<Model> model = load_run_model(ctx, f.model, options);
  warn_beyond_trained(*model, std::ssize(ids));
  const Tensor logits = all_logits(ctx, *model, ids, pieces);
  if (f.out.empty()) {
    show(f, ids, logits);
    return 0;
  }
  SafetensorsWriter out;
  out.add("logits", logits);
  out.add_i64("input_ids", {std::ssize(ids)}, std::vector<int64_t>(ids.begin(), ids.end()));
  out.write(f.out);
  if (f.common.json) {
    const Json line =
        Json::object({{"out", f.out}, {"tokens", std::ssize(ids)}, {"vocab", logits.size(1)}});
    std::puts(line.dump().c_str());
  }
  return 0;
}

}  // namespace

std::function<int()> setup_logits(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  app.add_option("-m,--model", f->model, "Run, checkpoint or Hugging Face folder, or .gguf file")
      ->required();
  app.add_option("--tokens", f->tokens, "Token ids: 1,2,3");
  app.add_option("--tokens-file", f->tokens_file, "The same from a file");
  app.add_option("--out", f->out, "Write f32 `logits` [T, vocab] to this safetensors file");
  app.add_option("--chunks", f->chunks,
                 "Feed pieces of these lengths (5,3,1), the rest token by token")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--step", f->step, "Feed token by token");
  f->load.add(app);
  f->common.add(app);
  app.footer("Example: braid logits -m FOLDER --tokens 1,2,3 --out logits.safetensors");
  return [f] { return run(*f); };
}

}  // namespace braid

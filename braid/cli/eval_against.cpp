#include "braid/cli/eval_against.h"

#include <algorithm>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/progress.h"
#include "braid/infer/divergence.h"
#include "braid/infer/memory.h"
#include "braid/infer/positions.h"
#include "braid/text/token_list.h"

namespace braid {
namespace {

constexpr size_t kMostText = size_t{1} << 28;

std::vector<int32_t> tokens_of(const LoadedModel& loaded, const std::string& model,
                               const std::string& text, const AgainstFlags& f) {
  const int64_t vocab = loaded.model->settings().vocab;
  if (!f.tokens_file.empty()) {
    return read_tokens(read_file(f.tokens_file, kMostText), f.tokens_file, vocab);
  }
  EncodeOptions plain;
  plain.allow_special = false;
  return require_tokenizer(loaded, model).encode(text, plain);
}

// Those of the contexts that a sequence of the model may have where nobody typed them, its longest
// one when they are all beyond; typed ones must be that.
std::vector<int64_t> fit(const ModelSettings& model, const AgainstFlags& f,
                         std::vector<int64_t> contexts) {
  if (f.contexts_flag->count() > 0) {
    for (const int64_t c : contexts) require_room(model, "--contexts", c);
    return contexts;
  }
  const int64_t most = most_tokens(model);
  std::erase_if(contexts, [&](int64_t c) { return c > most; });
  if (contexts.empty()) contexts.push_back(most);
  return contexts;
}

// The contexts that there are tokens for, ascending.
std::vector<int64_t> reached(std::vector<int64_t> contexts, int64_t tokens) {
  std::sort(contexts.begin(), contexts.end());
  contexts.erase(std::unique(contexts.begin(), contexts.end()), contexts.end());
  std::vector<int64_t> out;
  for (const int64_t c : contexts) {
    if (c <= tokens) {
      out.push_back(c);
    } else {
      std::fprintf(stderr, "%s\n",
                   format("left out: a context of {} tokens, there are {}", c, tokens).c_str());
    }
  }
  if (!out.empty()) return out;
  throw Error(ErrorKind::kUsage, format("{} tokens reach none of the contexts, the smallest is {}; "
                                        "give a longer text or --contexts",
                                        tokens, contexts.front()));
}

// Both models over the longest context, held against --mem before the reference is read: two sets
// of weights and states, and the scratch of one at a time.
LoadOptions counted(const CommonFlags& common, const LoadedModel& loaded, int64_t tokens) {
  LoadOptions out;
  if (common.mem.empty()) return out;
  out.before_fill = [&common, &loaded, tokens](const LoadedModel& reference,
                                               std::span<const WeightType> types) {
    const Workload work{tokens, 0};
    const MemoryNeed own = inference_memory(common.threads, loaded.model->settings(),
                                            weight_types(*loaded.model), work);
    const MemoryNeed other =
        inference_memory(common.threads, reference.model->settings(), types, work);
    common.require_memory({{"weights", own.weights},
                           {"weights of the reference", other.weights},
                           {"states", own.state + other.state},
                           {"scratch", std::max(own.scratch, other.scratch)}},
                          format("reading {} tokens with both models", tokens),
                          "ask for smaller --weights or --contexts");
  };
  return out;
}

}  // namespace

void AgainstFlags::add(CLI::App& app) {
  app.add_option("--against", reference,
                 "Compare predictions with this model's: KL and top-1 agreement in place of bpb");
  app.add_option("--tokens-file", tokens_file, "With --against: token ids in place of --data");
  contexts_flag =
      app.add_option("--contexts", contexts, "With --against: after how many tokens, as 512,8192")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->capture_default_str()
          ->check(CLI::Range(int64_t{1}, int64_t{1} << 22));
}

int eval_against(const CommonFlags& common, const Context& ctx, LoadedModel loaded,
                 const std::string& model, const std::string& text, const AgainstFlags& f) {
  const std::vector<int32_t> ids = tokens_of(loaded, model, text, f);
  std::vector<int64_t> contexts =
      reached(fit(loaded.model->settings(), f, f.contexts), std::ssize(ids));
  const LoadedModel reference =
      load_any_model(ctx, f.reference, counted(common, loaded, contexts.back()));
  contexts = fit(reference.model->settings(), f, contexts);
  warn_beyond_trained(*loaded.model, contexts.back());
  WorkProgress work;
  const WorkProgress::Tick tick = work.counts("both models read", "tokens");
  const std::vector<Divergence> found = divergence(
      ctx, *loaded.model, *reference.model, ids, contexts, [&](int64_t done, int64_t all) {
        tick(static_cast<uint64_t>(done), static_cast<uint64_t>(all));
      });
  work.finish();
  Json rows = Json::array();
  for (const Divergence& d : found) {
    rows.push(Json::object({{"context", d.context},
                            {"positions", d.positions},
                            {"kl", d.kl},
                            {"worst_kl", d.worst_kl},
                            {"top1", d.top1}}));
    if (common.json) continue;
    if (&d == &found.front()) {
      std::printf("%10s %10s %14s %14s %10s\n", "context", "positions", "KL, nats", "worst",
                  "top-1");
    }
    std::printf("%10lld %10lld %14.6g %14.6g %9.2f%%\n", static_cast<long long>(d.context),
                static_cast<long long>(d.positions), d.kl, d.worst_kl, d.top1 * 100);
  }
  if (common.json) {
    const Json out = Json::object(
        {{"model", model},
         {"against", f.reference},
         {"bytes", static_cast<int64_t>(loaded.model->parameters().bytes())},
         {"reference_bytes", static_cast<int64_t>(reference.model->parameters().bytes())},
         {"contexts", std::move(rows)}});
    std::puts(out.dump().c_str());
  }
  return 0;
}

}  // namespace braid

#include "braid/infer/generate.h"

#include <algorithm>

#include "braid/base/clock.h"
#include "braid/base/format.h"
#include "braid/infer/positions.h"
#include "braid/text/utf8_stream.h"

namespace braid {

void advance(const Context& ctx, Model& model, SequenceState& sequence,
             std::span<const int32_t> tokens) {
  advance(ctx, model, sequence, tokens, [] { return true; });
}

bool advance(const Context& ctx, Model& model, SequenceState& sequence,
             std::span<const int32_t> tokens, FunctionRef<bool()> go_on) {
  SequenceState* const one[] = {&sequence};
  while (!tokens.empty()) {
    const int64_t at = std::ssize(sequence.tokens);
    const int64_t n = std::min<int64_t>(std::ssize(tokens), kPrefillChunk - at % kPrefillChunk);
    Batch batch;
    batch.seq_starts = {0, n};
    batch.offsets = {at};
    const Tensor h = model.hidden(ctx, tokens.first(static_cast<size_t>(n)), batch, one);
    tokens = tokens.subspan(static_cast<size_t>(n));
    if (tokens.empty()) {
      const Tensor logits = model.logits(ctx, h.narrow(0, n - 1, 1));
      sequence.logits = logits.reshape({logits.count()});
    }
    if (!tokens.empty() && !go_on()) return false;
  }
  return true;
}

std::vector<int32_t> byte_tokens(std::string_view text) {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

void check_prompt(const Model& model, const SequenceState& sequence,
                  std::span<const int32_t> prompt) {
  if (prompt.empty() && !sequence.logits.defined()) {
    throw Error(ErrorKind::kUsage,
                "the prompt is empty and there is no saved state to continue from");
  }
  for (const int32_t id : prompt) {
    if (id >= 0 && id < model.settings().vocab) continue;
    throw Error(ErrorKind::kUsage,
                format("token {} of the prompt is not in the model's vocabulary of {}", id,
                       model.settings().vocab));
  }
  const int64_t most = most_tokens(model.settings()), read = std::ssize(sequence.tokens);
  if (std::ssize(prompt) <= most - read) return;
  throw Error(ErrorKind::kUsage,
              format("the prompt has {} tokens; a sequence of this model has at most {}{}",
                     std::ssize(prompt), most,
                     read > 0 ? format(", of which {} are left", most - read) : ""));
}

namespace {

// Turns tokens into the text of a result and says when to stop.
class Output {
 public:
  Output(const Tokenizer& tokenizer, const GenerateConfig& config,
         FunctionRef<bool(std::string_view)> on_text, GenerateResult& result)
      : config_(config),
        on_text_(on_text),
        result_(result),
        bytes_(tokenizer, true, false),
        text_(config.stops) {}

  // False after the token that ends the text.
  bool push(int32_t token) {
    result_.tokens.push_back(token);
    if (std::ranges::find(config_.eos, token) != config_.eos.end()) return end("eos");
    const bool go_on = show(text_.push(bytes_.push(token)));
    if (text_.stopped()) return end("stop");
    return go_on || end("interrupted");
  }
  void finish() {
    show(text_.push(bytes_.finish()));
    show(text_.finish());
  }

 private:
  bool end(const char* why) {
    result_.finish = why;
    return false;
  }
  bool show(const std::string& piece) {
    result_.text += piece;
    return on_text_(piece);  // empty ones too: this is where a caller stops
  }
  const GenerateConfig& config_;
  FunctionRef<bool(std::string_view)> on_text_;
  GenerateResult& result_;
  StreamDecoder bytes_;
  TextStream text_;
};

}  // namespace

GenerateResult generate(const Context& ctx, Model& model, const Tokenizer& tokenizer,
                        SequenceState& sequence, std::span<const int32_t> prompt,
                        const GenerateConfig& config, FunctionRef<bool(std::string_view)> on_text) {
  check_sampling(config.sampling);
  check_prompt(model, sequence, prompt);
  sequence.seed = config.sampling.seed;
  GenerateResult result;
  result.prompt_tokens = std::ssize(prompt);
  const double start = now_seconds();
  if (!advance(ctx, model, sequence, prompt, [&] { return on_text({}); }))
    throw Error(ErrorKind::kInterrupted, "stopped while reading the prompt");
  const double prefilled = now_seconds();
  result.prefill_seconds = prefilled - start;
  const int64_t room = most_tokens(model.settings()) - std::ssize(sequence.tokens);
  const int64_t wanted = std::min(config.max_tokens, room);
  result.finish = wanted < config.max_tokens ? "positions" : "length";
  Output output(tokenizer, config, on_text, result);
  Decoder decoder(ctx, model, sequence, config.sampling, config.drafter);
  bool go_on = true;
  while (go_on && std::ssize(result.tokens) < wanted) {
    int64_t kept = 0;
    for (const int32_t token : decoder.next(wanted - std::ssize(result.tokens))) {
      ++kept;
      go_on = output.push(token);
      if (!go_on) break;
    }
    if (!go_on || std::ssize(result.tokens) == wanted) decoder.finish(kept);
  }
  output.finish();
  result.draft = decoder.stats();
  result.decode_seconds = now_seconds() - prefilled;
  return result;
}

}  // namespace braid

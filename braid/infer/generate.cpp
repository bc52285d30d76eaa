#include "braid/infer/generate.h"

#include <algorithm>

#include "braid/base/clock.h"
#include "braid/text/utf8_stream.h"

namespace braid {

void advance(const Context& ctx, Model& model, SequenceState& sequence,
             std::span<const int32_t> tokens) {
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
  }
}

std::vector<int32_t> byte_tokens(std::string_view text) {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

GenerateResult generate(const Context& ctx, Model& model, SequenceState& sequence,
                        std::span<const int32_t> prompt, const GenerateConfig& config,
                        FunctionRef<bool(std::string_view)> on_text) {
  check_sampling(config.sampling);
  sequence.seed = config.sampling.seed;
  if (prompt.empty() && !sequence.logits.defined()) {
    throw Error(ErrorKind::kUsage,
                "the prompt is empty and there is no saved state to continue from");
  }
  GenerateResult result;
  result.prompt_tokens = std::ssize(prompt);
  const double start = now_seconds();
  advance(ctx, model, sequence, prompt);
  const double prefilled = now_seconds();
  result.prefill_seconds = prefilled - start;
  result.finish = "length";
  TextStream stream(config.stops);
  const auto show = [&](const std::string& piece) {
    result.text += piece;
    return piece.empty() || on_text(piece);
  };
  while (std::ssize(result.tokens) < config.max_tokens) {
    const int32_t token =
        sample({sequence.logits.data(), static_cast<size_t>(sequence.logits.count())},
               sequence.tokens, config.sampling, sequence.draws++);
    result.tokens.push_back(token);
    advance(ctx, model, sequence, {&token, 1});
    const char byte = static_cast<char>(token);
    const bool go_on = show(stream.push({&byte, 1}));
    if (stream.stopped() || !go_on) {
      result.finish = stream.stopped() ? "stop" : "interrupted";
      break;
    }
  }
  show(stream.finish());
  result.decode_seconds = now_seconds() - prefilled;
  return result;
}

}  // namespace braid

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/infer/decoder.h"
#include "braid/infer/sampler.h"
#include "braid/stack/model.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

// Feeds tokens to a sequence and leaves the logits after the last one in sequence.logits. Long
// inputs run in chunks that end at fixed absolute positions. A prompt that arrives in pieces is cut
// at its pieces too: the results then agree to rounding, not bit for bit (docs/numerics.md).
void advance(const Context& ctx, Model& model, SequenceState& sequence,
             std::span<const int32_t> tokens);
// The same, asked between chunks whether to go on; false when it was stopped, after a whole chunk.
bool advance(const Context& ctx, Model& model, SequenceState& sequence,
             std::span<const int32_t> tokens, FunctionRef<bool()> go_on);

constexpr int64_t kPrefillChunk = 512;  // tokens; chunk ends are multiples of it

struct GenerateConfig {
  SamplingConfig sampling;
  int64_t max_tokens = 256;
  std::vector<std::string> stops;
  std::vector<int32_t> eos;    // any of them ends the text and is not shown
  Drafter* drafter = nullptr;  // guesses at what follows; the result is the same without
};

struct GenerateResult {
  std::string text;             // without the stop string
  std::vector<int32_t> tokens;  // generated
  std::string finish;  // "length", "positions" (the model's last one), "stop", "eos", "interrupted"
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
  DraftStats draft;
};

// Throws Error(kUsage) when there is nothing to continue from, and for a prompt with tokens outside
// the model's vocabulary or with more than the sequence has room for.
void check_prompt(const Model& model, const SequenceState& sequence,
                  std::span<const int32_t> prompt);

// Continues `sequence` after `prompt` (may be empty when the sequence has seen some). on_text gets
// the text piece by piece, whole code points only; returning false stops after the token at hand.
// The last token, an end token too, is part of the sequence's state then. Throws what check_prompt
// does, and Error(kInterrupted) when on_text, called with "" between chunks of the prompt, returns
// false.
GenerateResult generate(const Context& ctx, Model& model, const Tokenizer& tokenizer,
                        SequenceState& sequence, std::span<const int32_t> prompt,
                        const GenerateConfig& config, FunctionRef<bool(std::string_view)> on_text);

std::vector<int32_t> byte_tokens(std::string_view text);

}  // namespace braid

#pragma once
// How texts end and how their makers sample, as GGUF keys, both ways.

#include "braid/formats/gguf.h"
#include "braid/importers/load.h"

namespace braid {

GenerationDefaults gguf_generation_defaults(const GgufFile& file);

// After the vocabulary, whose own bos, eos and padding stay. Of several ends the first ones get the
// keys of eos, eot and eom, which llama.cpp reads; all stand in tokenizer.ggml.eos_token_ids.
void put_generation_defaults(GgufWriter& writer, const GenerationDefaults& defaults);

}  // namespace braid

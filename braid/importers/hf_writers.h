#pragma once
// Pieces of config.json that several families' writers share (hf_home.cpp), and writers that stand
// in files of their own. `m` has the layers that a writer asks for.

#include "braid/base/json.h"
#include "braid/importers/hf_shown.h"
#include "braid/importers/mamba2_keys.h"

namespace braid {

void put_common(const ShownModel& m, const char* type, Json& c);
// max_position_embeddings, where it is known for how many tokens the model was made.
void put_made_for(const ShownModel& m, Json& c);
// Sizes of heads and biases, of the first gqa layer.
void put_heads(const ShownModel& m, Json& c);
// The same with its positions.
void put_gqa(const ShownModel& m, Json& c);
int64_t dense_width(const ShownModel& m);  // of its swiglu layers
void put_mamba2(const ShownLayer& l, const Mamba2Keys& keys, Json& c);
int64_t mamba2_expand(const ShownModel& m);
// Limits of the steps, where there are some.
void put_step_limit(const ShownLayer& l, Json& c);

// Layers before the first one with experts.
int64_t dense_layers_first(const ShownModel& m);

Json gemma3_config(const ShownModel& m);
Json gpt_oss_config(const ShownModel& m);
Json deepseek_v3_config(const ShownModel& m);
Json falcon_h1_config(const ShownModel& m);
Json hymba_config(const ShownModel& m);

}  // namespace braid

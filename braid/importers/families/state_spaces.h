#pragma once
// What Mamba and Mamba-2 share: state-spaces' own config.json, with the layer in ssm_cfg, and the
// names of tensors in both of their forms.

#include "braid/importers/common.h"

namespace braid {

// All but the layer, whose ssm_cfg is returned; its `layer` must be the one of this name.
ConfigReader read_state_spaces(ConfigReader& config, const char* layer, FamilyModel& model);

// Layers of one mixer, whose own rows are `mixer`. The embedding goes by either of its names, in
// what is written by Hugging Face's or by state-spaces' own.
void set_backbone(FamilyModel& model, const LayerSpec& layer, bool own,
                  std::vector<TensorRow> mixer);

}  // namespace braid

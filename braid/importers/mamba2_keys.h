#pragma once
// What config.json calls Mamba-2's sizes, in three spellings: the families read them, hf_home
// writes them.

namespace braid {

struct Mamba2Keys {
  const char *heads, *head_dim, *groups, *state, *conv, *conv_bias, *bias;
};

inline constexpr Mamba2Keys kMamba2Keys = {"num_heads",   "head_dim",      "n_groups", "state_size",
                                           "conv_kernel", "use_conv_bias", "use_bias"};
// Bamba, Granite 4, Falcon-H1.
inline constexpr Mamba2Keys kBambaKeys = {"mamba_n_heads",  "mamba_d_head", "mamba_n_groups",
                                          "mamba_d_state",  "mamba_d_conv", "mamba_conv_bias",
                                          "mamba_proj_bias"};
inline constexpr Mamba2Keys kNemotronKeys = {"mamba_num_heads", "mamba_head_dim", "n_groups",
                                             "ssm_state_size",  "conv_kernel",    "use_conv_bias",
                                             "use_bias"};

}  // namespace braid

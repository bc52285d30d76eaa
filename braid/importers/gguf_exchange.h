#pragma once
// A model's settings, said once for all four ways: out of a config.json or a file's keys, into
// either. An architecture names each setting with its key on both sides.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/formats/gguf.h"
#include "braid/importers/gguf_model.h"

namespace braid {

// The keys of one architecture in a file. Every error names the file and the key.
class GgufKeys {
 public:
  GgufKeys(const GgufFile& file, std::string arch) : file_(file), arch_(std::move(arch)) {}
  const GgufFile& file() const { return file_; }
  [[noreturn]] void fail(const std::string& what) const;
  std::string name(const char* key) const { return arch_ + "." + key; }
  const GgufValue* find(const char* key) const { return file_.find(name(key)); }
  int64_t integer(const char* key, std::optional<int64_t> fallback = std::nullopt) const;
  double real(const char* key, double fallback) const;
  bool truth(const char* key, bool fallback) const;
  // One number, or one for every layer.
  std::vector<int64_t> per_layer(const char* key, int64_t layers,
                                 std::optional<int64_t> fallback = std::nullopt) const;
  // The one value of a key that may be per layer but must not differ.
  int64_t uniform(const char* key, int64_t layers,
                  std::optional<int64_t> fallback = std::nullopt) const;
  bool has_tensor(const char* tensor) const { return file_.find_tensor(tensor) != nullptr; }

 private:
  const GgufFile& file_;
  std::string arch_;
};

// A config.json of either spelling, asked for single values. Null counts as absent.
class GgufConfig {
 public:
  GgufConfig(const Json& root, std::string source);
  [[noreturn]] void fail(const std::string& what) const;
  const Json* find(const char* key) const;
  bool says_null(const char* key) const;
  int64_t integer(const char* key, std::optional<int64_t> fallback = std::nullopt) const;
  double real(const char* key, double fallback) const;
  bool truth(const char* key, bool fallback) const;
  std::string text(const char* key, const std::string& fallback) const;
  std::vector<std::string> texts(const char* key) const;

 private:
  const Json* config_;
  std::string source_;
};

class GgufExchange {
 public:
  explicit GgufExchange(const GgufConfig& config) : config_(&config) {}
  explicit GgufExchange(Json& made) : made_(&made) {}
  explicit GgufExchange(const GgufKeys& keys) : keys_(&keys) {}
  GgufExchange(GgufWriter& writer, std::string arch) : writer_(&writer), arch_(std::move(arch)) {}

  // The way this goes, for what is not one key on both sides: one of these is not null.
  const GgufConfig* from_config() const { return config_; }
  Json* to_config() const { return made_; }
  const GgufKeys* from_file() const { return keys_; }
  GgufWriter* to_file() const { return writer_; }
  void set(const char* key, GgufValue value);  // to_file
  [[noreturn]] void fail(const std::string& what) const;

  // `hf` in config.json, ARCHITECTURE.`key` in a file, "" for a side that does not have it. Without
  // a fallback it must be there.
  void integer(int64_t& value, const char* hf, const char* key,
               std::optional<int64_t> fallback = std::nullopt);
  void real(double& value, const char* hf, const char* key, double fallback);
  void truth(bool& value, const char* hf, const char* key, bool fallback);
  // 0 where it is absent on either side; null in a config.json that is made.
  void optional(int64_t& value, const char* hf, const char* key);
  // Said in every config.json of the architecture, whatever the file.
  void says(const char* hf, Json value);
  // The same, and one that says otherwise has no GGUF form; `absent`: what leaving it out says.
  void always(const char* hf, const Json& value, const Json& absent);
  void always(const char* hf, const Json& value) { always(hf, value, value); }
  // What has no GGUF form where it is true or above zero; not written.
  void never(const char* hf);

  // Layers, widths, heads and what else nearly every architecture has.
  struct Sizes {
    const char* context = "max_position_embeddings";  // the longest text, in config.json
    double eps = 1e-6;                                // where config.json leaves it out
    const char* layers = "num_hidden_layers";
    const char* width = "hidden_size";
    const char* heads = "num_attention_heads";
    const char* ffn = "intermediate_size";
    const char* eps_key = "rms_norm_eps";
    const char* eps_in_file = "attention.layer_norm_rms_epsilon";
  };
  void sizes(GgufModel& m, const Sizes& s);
  void sizes(GgufModel& m) { sizes(m, {}); }
  // Key heads and the channels of a head.
  void heads(GgufModel& m);
  // Biases of attention; a file shows them by its tensors.
  void attention_bias(GgufModel& m, bool fallback = false);
  struct Positions {
    double theta = 10000;        // where config.json leaves it out
    double partial = 1;          // the same of the part of a head that turns
    bool says_partial = false;   // config.json has a key for it
    bool divisors = false;       // llama3 and longrope have a form, as a tensor
    bool truncated_yarn = true;  // what the architecture's YaRN does with its limits
    bool mscale = false;         // YaRN's mscale, and mscale_all_dim as a key of its own
  };
  void positions(GgufModel& m, const Positions& p);
  // Experts of every layer behind the leading dense ones, under these keys of config.json.
  void experts(GgufModel& m, const char* count = "num_experts",
               const char* used = "num_experts_per_tok");
  // routed_scaling_factor; `absent`: what leaving it out of config.json says.
  void scale_of_experts(GgufModel& m, double absent = 1);
  void gating(GgufModel& m);  // softmax or sigmoid; what config.json says is another's
  // DeepSeek V3's router: sigmoid scores and a bias that only chooses, groups, shared experts,
  // dense layers before the first with experts.
  struct Router {  // where config.json leaves it out
    double scale = 1;
    int64_t groups = 1, groups_used = 1, dense_lead = 1;
  };
  void sigmoid_experts(GgufModel& m, const Router& r);
  // DeepSeek's latent attention; a file has it as one key head.
  void latent(GgufModel& m);
  // Which layers attend to everything: layer_types with another name for the rest, or every so
  // many, where config.json says that under `every_key`.
  void layer_types(GgufModel& m, const char* other, const char* every_key, int64_t every);

 private:
  const GgufConfig* config_ = nullptr;
  Json* made_ = nullptr;
  const GgufKeys* keys_ = nullptr;
  GgufWriter* writer_ = nullptr;
  std::string arch_;
};

GgufValue gguf_integer(int64_t v);
GgufValue gguf_real(double v);
// The last layer of every `every` is full.
std::vector<bool> every_nth_full(int64_t layers, int64_t every);

}  // namespace braid

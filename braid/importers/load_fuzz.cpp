// A file of a tiny checkpoint is edited: Hugging Face's folders in plain numbers, fp8 and MXFP4, in
// one file and in shards, GGUF files, braid's own folders with quantised weights. Loading it is
// Error(kBadInput) in one line that names the checkpoint, or Error(kBudget), or it is a model that
// reads a text; what its folder says of tokens and sampling can be written down again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_export.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/load.h"
#include "braid/importers/random_weights.h"
#include "braid/stack/weights.h"
#include "braid/testing/fuzz_edit.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"
#include "braid/testing/tiny_configs.h"

namespace braid {
namespace {

const testing::FuzzFolder& folder() {
  static const testing::FuzzFolder one("load");
  return one;
}

constexpr const char* kGenerationConfig =
    R"({"eos_token_id":[2,3],"bos_token_id":1,"temperature":0.7,"top_p":0.9,"top_k":20})";

std::string random_folder(const Context& ctx, const std::string& name, const std::string& config,
                          uint64_t shard_bytes) {
  const std::string bare = folder() / ("config-" + name), to = folder() / name;
  make_folders(bare);
  write_file(join_path(bare, "config.json"), config);
  write_random_checkpoint(ctx, bare, to, "BF16", 1, shard_bytes);
  write_file(join_path(to, "generation_config.json"), kGenerationConfig);
  remove_folder(bare);
  return to;
}

std::string tiny(std::string_view name) {
  for (const testing::TinyConfig& c : testing::tiny_configs()) {
    if (name == c.name) return c.json;
  }
  BRAID_CHECK(!"a tiny config");
  return "";
}

std::string golden_folder(const std::string& name) {
  const std::string from = join_path(BRAID_SOURCE "/tests/golden/checkpoints", name);
  const std::string to = folder() / ("golden-" + name);
  make_folders(to);
  for (const char* file : {"config.json", "model.safetensors"})
    write_file(join_path(to, file), read_file(join_path(from, file)));
  return to;
}

constexpr const char* kGgufConfig = R"({"model_type":"llama","vocab_size":256,"hidden_size":64,
  "num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":96,
  "max_position_embeddings":128,"tie_word_embeddings":false,"rms_norm_eps":1e-5,
  "rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,
  "original_max_position_embeddings":8192}})";

std::string gguf_file(const Context& ctx, const std::string& name, const std::string& config,
                      GgmlType type) {
  const std::string from = random_folder(ctx, name + "-hf", config, 1 << 30);
  const std::string to = folder() / (name + ".gguf");
  convert_to_gguf(ctx, from, type, to);
  remove_folder(from);
  return to;
}

std::string own_folder(const Context& ctx, const std::string& name, WeightType weights) {
  const std::string from = random_folder(ctx, name + "-hf", kGgufConfig, 1 << 30);
  const std::string to = folder() / name;
  const LoadedModel loaded = load_model(ctx, from, {.weights = weights});
  make_folders(to);
  SafetensorsWriter writer;
  add_weights(writer, loaded.model->parameters());
  writer.write(join_path(to, "weights.safetensors"));
  write_file(join_path(to, "model.toml"), print_settings(loaded.model->settings()));
  write_file(join_path(to, "generation_config.json"), kGenerationConfig);
  remove_folder(from);
  return to;
}

class Checkpoint {
 public:
  explicit Checkpoint(std::string path) : path_(std::move(path)) {
    files_ = is_folder(path_) ? list_files_below(path_) : std::vector<std::string>{path_};
    for (const std::string& f : files_) good_.push_back(read_file(f));
    load();
  }

  void edit_and_load(testing::FuzzInput& input) {
    const size_t which = input.byte() % files_.size();
    std::string bytes = good_[which];
    while (!input.empty()) edit(input, bytes);
    if (bytes == good_[which]) return;
    put(files_[which], bytes);
    try {
      load();
    } catch (const Error& e) {
      testing::expect(e, {ErrorKind::kBadInput, ErrorKind::kBudget});
      const std::string_view said = e.what();
      // A stack expression and the mark below it may follow the line.
      BRAID_CHECK(std::count(said.begin(), said.end(), '\n') <= 2);
      BRAID_CHECK(e.kind() == ErrorKind::kBudget || said.find(path_) != said.npos);
    }
    put(files_[which], good_[which]);
  }

 private:
  // Not write_file(): nothing has to survive a crash here.
  static void put(const std::string& path, const std::string& bytes) {
    remove_file(path);
    AppendFile(path, 0).write(bytes);
  }

  void load() const {
    Context ctx{.threads = 1};  // starting others would take longer than their work
    ctx.arena = Arena::create(Arena::Mode::kReal, size_t{64} << 20);
    const LoadedModel loaded = load_model(ctx, path_);
    generation_config_of(loaded.generation).dump();
    if (is_gguf_file(path_)) gguf_tokenizer_files(GgufFile::open(path_));
    Model& model = *loaded.model;
    const std::vector<int32_t> ids = {0, 1, 2};
    BRAID_CHECK(model.settings().vocab > 0);
    if (model.settings().vocab <= 2 || model.executed() > 64) return;
    const Tensor h = model.hidden(ctx, ids, Batch::uniform(1, 3));
    model.logits(ctx, h);
  }

  std::string path_;
  std::vector<std::string> files_, good_;
};

std::unique_ptr<Checkpoint> make_checkpoint(size_t which) {
  const Context ctx;
  const auto made = [](std::string path) { return std::make_unique<Checkpoint>(std::move(path)); };
  switch (which) {
    case 0:
      return made(random_folder(ctx, "llama", tiny("llama"), 1 << 30));
    case 1:
      return made(random_folder(ctx, "shards", tiny("gpt_oss"), 8000));
    case 2:
      return made(random_folder(ctx, "kimi", tiny("kimi_linear"), 1 << 30));
    case 3:
      return made(random_folder(ctx, "nemotron", tiny("nemotron_h"), 1 << 30));
    case 4:
      return made(random_folder(ctx, "falcon", tiny("falcon_h1"), 1 << 30));
    case 5:
      return made(golden_folder("gpt_oss"));
    case 6:
      return made(golden_folder("deepseek_v3"));
    case 7:
      return made(gguf_file(ctx, "f32", kGgufConfig, GgmlType::kF32));
    case 8:
      return made(gguf_file(ctx, "q8", kGgufConfig, GgmlType::kQ8_0));
    case 9:
      return made(gguf_file(ctx, "q4", kGgufConfig, GgmlType::kQ4_0));
    case 10:
      return made(own_folder(ctx, "own-q8", WeightType::kQ8));
    case 11:
      return made(own_folder(ctx, "own-q4", WeightType::kQ4));
    default:
      return made(own_folder(ctx, "own-bf16", WeightType::kBF16));
  }
}

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static std::unique_ptr<braid::Checkpoint> checkpoints[13];
  braid::testing::FuzzInput input(data, size);
  const size_t which = input.byte() % std::size(checkpoints);
  if (checkpoints[which] == nullptr) checkpoints[which] = braid::make_checkpoint(which);
  checkpoints[which]->edit_and_load(input);
  return 0;
}

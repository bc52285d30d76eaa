// Experts one by one and stacked in two tensors, as transformers 5 holds them: the same model.

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "braid/base/format.h"
#include "braid/testing/family_checkpoints.h"

namespace braid::testing {
namespace {

struct Tensor32 {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using Tensors = std::map<std::string, Tensor32>;

Tensors read_tensors(const std::string& folder) {
  const SafetensorsFolder files = SafetensorsFolder::open(folder);
  Tensors out;
  for (const std::string& name : files.names()) {
    const SafetensorsFolder::Found f = files.at(name);
    REQUIRE(f.entry->dtype == "F32");
    Tensor32& t = out[name];
    t.shape = f.entry->shape;
    t.values.resize(f.bytes().size() / sizeof(float));
    std::memcpy(t.values.data(), f.bytes().data(), f.bytes().size());
  }
  return out;
}

std::string write_tensors(const Tensors& tensors, const std::string& config,
                          const std::string& to) {
  make_folders(to);
  write_file(join_path(to, "config.json"), config);
  SafetensorsFolderWriter writer(to);
  for (const auto& [name, t] : tensors) {
    writer.add(name, "F32", t.shape, [&values = t.values](ByteSink sink) {
      sink(values.data(), values.size() * sizeof(float));
    });
  }
  writer.write();
  return to;
}

void append_values(std::vector<float>& to, const Tensor32& t) {
  to.insert(to.end(), t.values.begin(), t.values.end());
}

// ...experts.0.gate_proj.weight and all like it -> ...experts.gate_up_proj, ...experts.down_proj.
Tensors stacked(const Tensors& single) {
  Tensors out;
  for (const auto& [name, t] : single) {
    const size_t at = name.find(".experts.");
    if (at == std::string::npos) {
      out[name] = t;
      continue;
    }
    const std::string scope = name.substr(0, at + std::strlen(".experts."));
    if (out.contains(scope + "down_proj")) continue;
    Tensor32 &gate_up = out[scope + "gate_up_proj"], &down = out[scope + "down_proj"];
    const bool mixtral = single.contains(scope + "0.w1.weight");
    int64_t count = 0;
    for (;; ++count) {
      const auto part = [&](const char* own, const char* theirs) {
        return single.find(format("{}{}.{}.weight", scope, count, mixtral ? theirs : own));
      };
      const auto gate = part("gate_proj", "w1");
      if (gate == single.end()) break;
      append_values(gate_up.values, gate->second);
      append_values(gate_up.values, part("up_proj", "w3")->second);
      append_values(down.values, part("down_proj", "w2")->second);
      gate_up.shape = {0, 2 * gate->second.shape[0], gate->second.shape[1]};
      down.shape = {0, gate->second.shape[1], gate->second.shape[0]};
    }
    gate_up.shape[0] = down.shape[0] = count;
  }
  return out;
}

Tensors one_by_one(const Tensors& stacks) {
  Tensors out;
  for (const auto& [name, t] : stacks) {
    const size_t at = name.find(".experts.");
    if (at == std::string::npos) {
      out[name] = t;
      continue;
    }
    const std::string scope = name.substr(0, at + std::strlen(".experts."));
    const bool down = name.ends_with("down_proj");
    const int64_t rows = down ? t.shape[1] : t.shape[1] / 2, columns = t.shape[2];
    const int64_t parts = down ? 1 : 2;
    for (int64_t i = 0; i < t.shape[0] * parts; ++i) {
      const char* part = down ? "down_proj" : i % 2 == 0 ? "gate_proj" : "up_proj";
      const auto begin = t.values.begin() + i * rows * columns;
      out[format("{}{}.{}.weight", scope, i / parts, part)] = {{rows, columns},
                                                               {begin, begin + rows * columns}};
    }
  }
  return out;
}

TEST_CASE("experts one by one and stacked are the same model") {
  const Context ctx;
  const ScratchFolder scratch("families-experts");
  for (const char* family : {"qwen3_moe", "qwen3_next", "glm4_moe", "deepseek_v3", "kimi_linear",
                             "minimax", "minimax_m2", "jamba", "qwen3_5_moe"}) {
    INFO(family);
    const std::string folder = make_checkpoint(ctx, scratch, tiny_config(family), "F32");
    const Tensors before = read_tensors(folder);
    const bool stacks = std::string_view(family) == "qwen3_5_moe";
    const Tensors after = stacks ? one_by_one(before) : stacked(before);
    REQUIRE((stacks ? after.size() > before.size() : after.size() < before.size()));
    const std::string to = scratch / (std::string(family) + ".other");
    write_tensors(after, tiny_config(family).json, to);
    CHECK(load_error(ctx, to) == "");
    const LoadOptions f32{.weights = WeightType::kF32};
    CHECK(logits_of(ctx, *load_model(ctx, to, f32).model, {16}) ==
          logits_of(ctx, *load_model(ctx, folder, f32).model, {16}));
  }
}

TEST_CASE("an expert that is missing is named in the spelling that the others have") {
  const Context ctx;
  const ScratchFolder scratch("families-experts-missing");
  const TinyConfig& config = tiny_config("qwen3_moe");
  const std::string folder = make_checkpoint(ctx, scratch, config, "F32");
  Tensors tensors = read_tensors(folder);
  tensors.erase("model.layers.2.mlp.experts.0.gate_proj.weight");
  CHECK(says(load_error(ctx, write_tensors(tensors, config.json, scratch / "one")),
             "missing: model.layers.2.mlp.experts.0.gate_proj.weight"));
  Tensors stacks = stacked(read_tensors(folder));
  stacks.erase("model.layers.2.mlp.experts.down_proj");
  CHECK(says(load_error(ctx, write_tensors(stacks, config.json, scratch / "stacked")),
             "missing: model.layers.2.mlp.experts.down_proj"));
}

}  // namespace
}  // namespace braid::testing

// Every family on a tiny random checkpoint in its real names: what is loaded is what was written,
// what is written again is the same bytes, and nothing is left over or guessed.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <set>

#include "braid/base/format.h"
#include "braid/importers/hf_export.h"
#include "braid/ops/view.h"
#include "braid/stack/compress.h"
#include "braid/stack/weights.h"
#include "braid/testing/family_checkpoints.h"
#include "braid/testing/golden.h"

namespace braid::testing {
namespace {

// Loads, writes again through the family's table in the dtypes the file has, compares the bytes.
void check_round_trip(const Context& ctx, const std::string& folder, const std::string& again) {
  const HfCheckpoint c = open_hf_checkpoint(folder);
  const LoadedModel loaded = load_model(ctx, folder, {.weights = WeightType::kF32});
  const SafetensorsFolder before = SafetensorsFolder::open(folder);
  const Json config = load_config(join_path(folder, "config.json"));
  export_hf({loaded.model.get(), &c.map, config,
             [&](const std::string& name) { return before.at(name).entry->dtype; }, ""},
            again, kTinyShard);
  const SafetensorsFolder after = SafetensorsFolder::open(again);
  for (const TensorMap::Entry& e : c.map.tensors) {
    const auto a = before.at(e.name).bytes(), b = after.at(e.name).bytes();
    CHECK_MESSAGE((a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0), folder,
                  ": ", e.name);
  }
}

TEST_CASE("a tiny checkpoint of every family loads and is written again byte by byte") {
  const Context ctx;
  const ScratchFolder scratch("families");
  for (const TinyConfig& config : tiny_configs()) {
    INFO(config.name);
    try {
      for (const char* dtype : {"F32", "BF16"}) {
        const std::string folder = make_checkpoint(ctx, scratch, config, dtype);
        check_round_trip(ctx, folder, scratch / (std::string(config.name) + dtype + ".again"));
        if (std::string(dtype) == "BF16") continue;
        const LoadedModel loaded = load_model(ctx, folder);
        const std::vector<float> whole = logits_of(ctx, *loaded.model, {16});
        const std::vector<float> cut = logits_of(ctx, *loaded.model, {9, 1, 1, 5});
        REQUIRE(whole.size() == cut.size());
        for (size_t i = 0; i < whole.size(); ++i) {
          REQUIRE(std::isfinite(whole[i]));
          REQUIRE(std::abs(whole[i] - cut[i]) < 2e-3f);
        }
      }
    } catch (const Error& e) {
      FAIL_CHECK((std::string(config.name) + ": " + e.what()));
    }
  }
}

TEST_CASE("published checkpoints are written again byte by byte") {
  const Context ctx;
  const ScratchFolder scratch("families-golden");
  for (const std::string& folder : golden_folders("checkpoints", "config.json")) {
    INFO(folder);
    check_round_trip(ctx, folder, scratch / file_name(folder));
    copy_hf_folder(folder, scratch / (file_name(folder) + ".copy"), 1 << 16);
    const SafetensorsFolder before = SafetensorsFolder::open(folder);
    const auto after = SafetensorsFolder::open(scratch / (file_name(folder) + ".copy"));
    CHECK(before.names() == after.names());
    for (const std::string& name : before.names()) {
      const auto a = before.at(name), b = after.at(name);
      CHECK(a.entry->dtype == b.entry->dtype);
      CHECK(a.entry->shape == b.entry->shape);
      REQUIRE(a.bytes().size() == b.bytes().size());
      CHECK(std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0);
    }
  }
}

TEST_CASE(
    "missing, unknown and misshapen tensors are errors that name them; known ones are notes") {
  const Context ctx;
  const ScratchFolder scratch("families-strict");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("glm4_moe"), "F32");
  const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
  const auto make = [&](const char* to, const std::string& drop, const std::string& add,
                        bool wrong) {
    return broken_checkpoint(folder, scratch / to, drop, add, wrong);
  };
  CHECK(load_error(ctx, make("a", name, "", false)).find("missing: " + name) != std::string::npos);
  CHECK(load_error(ctx, make("b", name, "", true)).find("other shape: " + name) !=
        std::string::npos);
  const std::string stray = "model.layers.0.mlp.third_proj.weight";
  CHECK(load_error(ctx, make("c", "", stray, false)).find("not of this model: " + stray) !=
        std::string::npos);
  for (const char* known :
       {"model.layers.2.eh_proj.weight", "mtp.fc.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq", "visual.patch.weight"}) {
    const std::string to = make(file_name(std::string("k/") + known).c_str(), "", known, false);
    CHECK(load_error(ctx, to) == "");
    CHECK(load_model(ctx, to).notes.size() == 1);
  }
}

TEST_CASE("Nemotron-H's tensors have the names of its checkpoints and are read strictly") {
  const Context ctx;
  const ScratchFolder scratch("families-nemotron");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("nemotron_h"), "F32");
  const std::vector<std::string> names = SafetensorsFolder::open(folder).names();
  for (const char* name :
       {"backbone.embeddings.weight", "backbone.layers.0.mixer.in_proj.weight",
        "backbone.layers.0.norm.weight", "backbone.layers.1.mixer.up_proj.weight",
        "backbone.layers.1.mixer.down_proj.weight", "backbone.layers.4.mixer.q_proj.weight",
        "backbone.layers.4.mixer.o_proj.weight", "backbone.norm_f.weight", "lm_head.weight"})
    CHECK_MESSAGE(std::find(names.begin(), names.end(), name) != names.end(), name);
  for (const std::string name : {"mixer.up_proj.weight", "norm.weight"}) {
    const std::string drop = "backbone.layers.5." + name;
    CHECK(says(load_error(ctx, broken_checkpoint(folder, scratch / name, drop, "", false)),
               ("missing: " + drop).c_str()));
  }
  const std::string sparse = make_checkpoint(ctx, scratch, tiny_config("nemotron_h_moe"), "F32");
  for (const char* name :
       {"gate.weight", "gate.e_score_correction_bias", "experts.5.up_proj.weight",
        "experts.0.down_proj.weight", "shared_experts.up_proj.weight"}) {
    const std::string drop = std::string("backbone.layers.3.mixer.") + name;
    CHECK(says(load_error(ctx, broken_checkpoint(sparse, scratch / name, drop, "", false)),
               ("missing: " + drop).c_str()));
  }
  const std::string stray = "backbone.layers.1.mixer.gate_proj.weight";
  CHECK(says(load_error(ctx, broken_checkpoint(folder, scratch / "stray", "", stray, false)),
             ("not of this model: " + stray).c_str()));
}

TEST_CASE("a pattern of layers is bounded like their number") {
  for (const size_t layers : {2048, 2049}) {
    const std::string config = R"({"model_type": "nemotron_h", "hybrid_override_pattern": ")" +
                               std::string(layers, '-') + R"("})";
    const auto read = [&] { return read_config(Json::parse(config), "config.json"); };
    if (layers == 2048) {
      CHECK(read().model.layers == 2048);
    } else {
      CHECK_THROWS_WITH_AS(read(), doctest::Contains("the pattern has 2049 layers"), Error);
    }
  }
}

TEST_CASE("Mamba-2's tensors are read strictly") {
  const Context ctx;
  const ScratchFolder scratch("families-strict2");
  const std::string folder = make_checkpoint(ctx, scratch, tiny_config("mamba2"), "F32");
  const std::string at = "backbone.layers.1.mixer.";
  for (const char* part : {"in_proj.weight", "in_proj.bias", "dt_bias", "norm.weight", "D"}) {
    const std::string to = scratch / (std::string("without ") + part);
    CHECK(says(load_error(ctx, broken_checkpoint(folder, to, at + part, "", false)),
               ("missing: " + at + part).c_str()));
  }
  for (const std::string& stray : {at + "in_proj_dt.weight", at + "x_proj.weight"}) {
    CHECK(says(load_error(ctx, broken_checkpoint(folder, scratch / stray, "", stray, false)),
               ("not of this model: " + stray).c_str()));
  }
  for (const char* family : {"bamba", "granitemoehybrid"}) {  // one in_proj in these too
    const std::string other = make_checkpoint(ctx, scratch, tiny_config(family), "F32");
    for (const std::string& name : SafetensorsFolder::open(other).names())
      CHECK_MESSAGE(name.find("in_proj_dt") == std::string::npos, name);
  }
}

TEST_CASE("Mamba's embedding goes by either of its names under either config.json") {
  const Context ctx;
  const ScratchFolder scratch("families-mamba");
  const std::string hf = R"({"model_type": "mamba2", "hidden_size": 32, "num_heads": 4,
      "head_dim": 16, "state_size": 8, "n_groups": 1, "num_hidden_layers": 2, "vocab_size": 64,
      "tie_word_embeddings": true})";
  const TinyConfig mamba2{"mamba2_same", hf.c_str()};  // as mamba2_own
  for (const auto& [written, read] : {std::pair{tiny_config("mamba_own"), tiny_config("mamba")},
                                      {tiny_config("mamba"), tiny_config("mamba_own")},
                                      {tiny_config("mamba2_own"), mamba2},
                                      {mamba2, tiny_config("mamba2_own")}}) {
    const std::string folder = make_checkpoint(ctx, scratch, written, "F32");
    const std::vector<float> want = logits_of(ctx, *load_model(ctx, folder).model, {16});
    write_file(join_path(folder, "config.json"), read.json);
    CHECK(logits_of(ctx, *load_model(ctx, folder).model, {16}) == want);
  }
}

// config.json of one golden Mamba-2 layer in a family's words for its sizes.
std::string golden_mamba2_config(const SafetensorsFile& file, const std::string& family,
                                 int64_t vocab) {
  const bool nemotron = family == "nemotron_h";
  std::string json = format(R"({{"model_type": "{}", "vocab_size": {}, "num_hidden_layers": 1,
      "tie_word_embeddings": true, "expand": 2, "time_step_limit": [0.0, Infinity])",
                            family, vocab);
  if (nemotron) json += R"(, "hybrid_override_pattern": "M")";
  for (const auto& [key, word] : {std::pair{"hidden_size", "hidden_size"},
                                  {"num_heads", "mamba_num_heads"},
                                  {"head_dim", "mamba_head_dim"},
                                  {"state_size", "ssm_state_size"},
                                  {"n_groups", "n_groups"},
                                  {"conv_kernel", "conv_kernel"},
                                  {"layer_norm_epsilon", "layer_norm_epsilon"}})
    json += format(R"(, "{}": {})", nemotron ? word : key, file.metadata(key));
  return json + "}";
}

// The tensors of a golden layer in the names they have there; `inputs` are the rows of the
// embedding.
void write_golden_mamba2(const Context& ctx, const SafetensorsFile& file, const Tensor& inputs,
                         const std::string& to) {
  SafetensorsFolderWriter writer(to);
  for (const SafetensorsEntry& e : file.entries()) {
    if (e.name.starts_with("backbone."))
      writer.add(e.name, e.dtype, e.shape,
                 [&](ByteSink sink) { sink(file.bytes(e).data(), file.bytes(e).size()); });
  }
  const auto add = [&](const char* name, std::vector<int64_t> shape, const Tensor& t) {
    writer.add(name, "F32", std::move(shape), [t](ByteSink sink) {
      sink(t.data(), static_cast<size_t>(t.count()) * sizeof(float));
    });
  };
  add("backbone.embeddings.weight", {inputs.size(0), inputs.size(1)}, inputs);
  Tensor ones = Tensor::empty(ctx, {inputs.size(1)});
  std::fill_n(ones.data(), ones.count(), 1.0f);
  add("backbone.norm_f.weight", {inputs.size(1)}, ones);
  writer.write();
}

// The model's output for tokens 0, 1, ... against the norm of what the golden layer gave.
void check_golden_mamba2(const Context& ctx, const std::string& folder, const Tensor& out,
                         int64_t tokens) {
  const LoadedModel loaded = load_model(ctx, folder, {.weights = WeightType::kF32});
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 0);
  SequenceState sequence = loaded.model->new_sequence(ctx);
  SequenceState* const one[] = {&sequence};
  Batch batch;
  batch.seq_starts = {0, tokens};
  batch.offsets = {0};
  const Tensor got = loaded.model->hidden(ctx, ids, batch, one);
  const int64_t width = out.size(2);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = out.data() + t * width;
    double squares = 0;
    for (int64_t c = 0; c < width; ++c) squares += double{row[c]} * row[c];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
    for (int64_t c = 0; c < width; ++c)
      REQUIRE(std::abs(got.data()[t * width + c] - row[c] * scale) < 1e-5);
  }
}

TEST_CASE("Mamba-2's layers of others, as a checkpoint of theirs, give their outputs") {
  const Context ctx;
  const ScratchFolder scratch("families-mamba2");
  int found = 0;
  for (const std::string& path : golden_files("ssm")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata("kind") != "layer_mamba2") continue;
    if (file.metadata("gated_norm_groups") != file.metadata("n_groups")) continue;
    ++found;
    const Tensor in = file.to_f32(ctx, "in.hidden_states").narrow(0, 0, 1);
    const int64_t tokens = in.size(1);
    const std::string folder = scratch / file_name(path);
    make_folders(folder);
    write_golden_mamba2(ctx, file, reshape(ctx, in, {tokens, in.size(2)}), folder);
    for (const char* family : {"mamba2", "nemotron_h"}) {
      INFO(path, " as ", family);
      write_file(join_path(folder, "config.json"), golden_mamba2_config(file, family, tokens));
      check_golden_mamba2(ctx, folder, file.to_f32(ctx, "out.out"), tokens);
    }
  }
  CHECK(found == 2);
}

// BlinkDL's word for a tensor that fla calls `name`.
std::string blinkdl_name(std::string name) {
  for (const auto& [from, to] :
       {std::pair<std::string, std::string>{"model.layers.0.pre_norm", "blocks.0.ln0"},
        {"model.embeddings", "emb"},
        {"model.norm", "ln_out"},
        {"lm_head", "head"},
        {"model.layers.", "blocks."},
        {"attn_norm", "ln1"},
        {"ffn_norm", "ln2"},
        {"attn.", "att."},
        {"r_proj", "receptance"},
        {"k_proj", "key"},
        {"v_proj", "value"},
        {"o_proj", "output"},
        {"g_norm", "ln_x"},
        {"_lora.lora.2.bias", "0"},
        {"_lora.lora.0.weight", "1"},
        {"_lora.lora.2.weight", "2"}}) {
    if (const size_t at = name.find(from); at != std::string::npos)
      name.replace(at, from.size(), to);
  }
  return name;
}

// The RWKV-7 checkpoint as RWKV-LM keeps it, with the first layer's unread residual of values.
void write_blinkdl(const std::string& folder, const std::string& to) {
  const SafetensorsFolder before = SafetensorsFolder::open(folder);
  make_folders(to);
  write_file(join_path(to, "config.json"), read_file(join_path(folder, "config.json")));
  std::map<std::string, std::vector<float>> kept;  // until written
  SafetensorsFolderWriter writer(to);
  for (const std::string& name : before.names()) {
    const SafetensorsFolder::Found f = before.at(name);
    REQUIRE(f.entry->dtype == "F32");
    std::vector<int64_t> shape = f.entry->shape;
    const bool mix = name.find(".attn.") != std::string::npos || name.ends_with("ffn.x_k");
    if (shape.size() == 1 && mix && name.find("g_norm") == std::string::npos)
      shape = {1, 1, shape[0]};
    std::vector<float>& values = kept[name];
    values.resize(f.bytes().size() / sizeof(float));
    std::memcpy(values.data(), f.bytes().data(), f.bytes().size());
    if (name.find("_lora") != std::string::npos && shape.size() == 2) {
      const std::vector<float> rows = values;
      const auto out = static_cast<size_t>(shape[0]), in = static_cast<size_t>(shape[1]);
      for (size_t i = 0; i < rows.size(); ++i) values[i % in * out + i / in] = rows[i];
      std::swap(shape[0], shape[1]);
    }
    writer.add(blinkdl_name(name), "F32", shape,
               [&values](ByteSink sink) { sink(values.data(), values.size() * sizeof(float)); });
  }
  const std::vector<float> unread(96, NAN);
  for (const auto& [name, shape] : {std::pair{"v0", std::vector<int64_t>{1, 1, 32}},
                                    {"v1", std::vector<int64_t>{32, 3}},
                                    {"v2", std::vector<int64_t>{3, 32}}}) {
    const size_t bytes = shape.size() == 3 ? 128 : 384;
    writer.add(std::string("blocks.0.att.") + name, "F32", shape,
               [&unread, bytes](ByteSink sink) { sink(unread.data(), bytes); });
  }
  writer.write();
}

TEST_CASE("RWKV-7 in BlinkDL's names gives the bits that it gives in fla's, and is read strictly") {
  const Context ctx;
  const ScratchFolder scratch("families-rwkv");
  const std::string fla = make_checkpoint(ctx, scratch, tiny_config("rwkv7"), "F32");
  const std::string own = scratch / "blinkdl";
  write_blinkdl(fla, own);
  const std::vector<float> want = logits_of(ctx, *load_model(ctx, fla).model, {16});
  for (const char* config : {"rwkv7", "rwkv7_blinkdl"}) {
    write_file(join_path(own, "config.json"), tiny_config(config).json);
    write_file(join_path(fla, "config.json"), tiny_config(config).json);
    const LoadedModel loaded = load_model(ctx, own);
    CHECK(logits_of(ctx, *loaded.model, {16}) == want);
    CHECK(loaded.notes.size() == 1);
    CHECK(logits_of(ctx, *load_model(ctx, fla).model, {16}) == want);
  }
  const std::string name = "blocks.1.att.v1";
  CHECK(load_error(ctx, broken_checkpoint(own, scratch / "a", name, "", false))
            .find("missing: " + name) != std::string::npos);
  CHECK(load_error(ctx, broken_checkpoint(own, scratch / "b", "", "blocks.1.att.v3", false))
            .find("not of this model: blocks.1.att.v3") != std::string::npos);
  CHECK(load_error(ctx, broken_checkpoint(fla, scratch / "c", "", "model.layers.0.attn.v0", false))
            .find("not of this model: model.layers.0.attn.v0") != std::string::npos);
}

TEST_CASE("RWKV-7's tensors are those of fla's own layers, in name and shape") {
  int found = 0;
  for (const std::string& path : golden_files("ssm")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata("kind") != "layer_rwkv7_x2") continue;
    ++found;
    std::string json = R"({"model_type": "rwkv7", "vocab_size": 64, "num_hidden_layers": 2)";
    for (const char* key : {"hidden_size", "head_dim", "num_heads", "intermediate_size",
                            "decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim"})
      json += format(R"(, "{}": {})", key, file.metadata(key));
    json += format(R"(, "gate_low_rank_dim": {}}})", file.metadata("gate_low_rank_dim"));
    const FamilyModel family = read_config(parse_config(json), path).model;
    Context dry;
    dry.arena = Arena::create(Arena::Mode::kDry);
    const Model model(dry, family.settings, Model::Fill::kDeferred);
    const TensorMap map = export_map(family, model.parameters());
    std::set<std::string> ours, theirs;
    for (const TensorMap::Entry& e : map.tensors) {
      if (e.name.starts_with("model.layers.")) ours.insert(e.name + shape_text(e.shape));
    }
    for (const SafetensorsEntry& e : file.entries()) {
      if (e.name.starts_with("model.layers.")) theirs.insert(e.name + shape_text(e.shape));
    }
    CHECK(ours == theirs);
  }
  CHECK(found > 0);
}

TEST_CASE("config.json is read strictly, in both spellings") {
  const std::string start =
      R"({"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4)";
  CHECK(config_error(start + "}") == "");
  CHECK(config_error(start + R"(, "torch_dtype": "bfloat16", "bos_token_id": 1, "odd": null})") ==
        "");
  CHECK(says(config_error(start + R"(, "attn_logit_softcapping": 30.0})"),
             "attn_logit_softcapping = 30"));
  CHECK(says(config_error(start + R"(, "hidden_act": "relu"})"), "silu"));
  CHECK(says(config_error(start + R"(, "rope_scaling": {"rope_type": "spiral"}})"), "spiral"));
  CHECK(says(config_error(start +
                          R"(, "rope_scaling": {"rope_type": "linear", "factor": 2, "twist": 1}})"),
             "twist"));
  CHECK(says(config_error(start + R"(, "num_hidden_layers": -1})"), "num_hidden_layers"));
  CHECK(says(config_error(start + R"(, "num_hidden_layers": 1e30})"), "num_hidden_layers"));
  CHECK(says(config_error(start + R"(, "rms_norm_eps": 7})"), "norm_eps = 7 is not between"));
  CHECK(says(config_error(start + R"(, "num_key_value_heads": 3})"), "num_key_value_heads"));
  CHECK(
      says(config_error(start + R"(, "quantization_config": {"quant_method": "gptq"}})"), "gptq"));
  CHECK(says(config_error(R"({"model_type": "rwkv9"})"), "rwkv9"));
  CHECK(config_error(R"({"d_model": 32, "ssm_cfg": {}})") == "");
  CHECK(says(config_error(R"({"d_model": 32, "ssm_cfg": {"layer": "Mamba9"}})"), "Mamba9"));
  CHECK(says(config_error(R"({"d_model": 32, "ssm_cfg": {"d_stat": 8}})"), "d_stat = 8"));
  CHECK(
      says(config_error(R"({"d_model": 32, "ssm_cfg": {}, "attn_layer_idx": [1]})"), "attn_layer"));
  CHECK(says(config_error(R"({"model_type": "Mamba1"})"), "ssm_cfg"));
  CHECK(says(config_error(R"({"model_type": "mamba", "hidden_size": 32, "d_model": 48})"),
             "hidden_size is 32 but d_model is 48"));
  const std::string mamba2 = R"({"model_type": "mamba2", )";
  CHECK(config_error(mamba2 + R"("time_step_limit": [0.0, Infinity]})") == "");
  CHECK(config_error(mamba2 + R"("time_step_limit": [0.0, {"__float__": "Infinity"}]})") == "");
  CHECK(says(config_error(mamba2 + R"("time_step_limit": [0.0, NaN]})"), "json: parse error"));
  CHECK(says(config_error(mamba2 + R"("time_step_limit": [0.0, {"__float__": "NaN"}]})"), "NaN"));
  CHECK(says(config_error(mamba2 + R"("time_step_limit": [0.5, 0.1]})"), "not a range"));
  CHECK(says(config_error(mamba2 + R"("time_step_limit": [-1.0, 0.1]})"), "not a range"));
  CHECK(says(config_error(mamba2 + R"("time_step_limit": [Infinity, Infinity]})"), "not a pair"));
  CHECK(says(config_error(mamba2 + R"("hidden_size": Infinity})"), "hidden_size"));
  CHECK(says(config_error(mamba2 + R"("num_heads": 64})"), "num_heads = 64 of head_dim = 64"));
  CHECK(says(config_error(mamba2 + R"("n_groups": 3})"), "3 groups"));
  CHECK(says(config_error(mamba2 + R"("hidden_act": "gelu"})"), "gelu"));
  const std::string own2 = R"({"d_model": 128, "ssm_cfg": {"layer": "Mamba2", )";
  CHECK(says(config_error(own2 + R"("headdim": 48}})"), "headdim = 48"));
  CHECK(says(config_error(own2 + R"("d_ssm": 64}})"), "d_ssm"));
  CHECK(says(config_error(own2 + R"("d_stat": 8}})"), "d_stat = 8"));
  CHECK(says(config_error(own2 + R"("d_state": 8}, "attn_layer_idx": [1]})"), "attn_layer_idx"));
  const std::string nemotron = R"({"model_type": "nemotron_h", )";
  const std::string pattern = nemotron + R"("hybrid_override_pattern": "M-*-")";
  CHECK(config_error(pattern + "}") == "");
  CHECK(says(config_error(nemotron + R"("hidden_size": 64})"), "neither hybrid_override_pattern"));
  const std::string sparse = nemotron + R"("hybrid_override_pattern": "ME*")";
  CHECK(config_error(sparse + "}") == "");
  CHECK(says(config_error(sparse + R"(, "moe_latent_size": 512})"), "moe_latent_size"));
  CHECK(says(config_error(sparse + R"(, "mlp_bias": true})"), "mlp_bias"));
  CHECK(says(config_error(sparse + R"(, "n_shared_experts": 2})"), "n_shared_experts"));
  CHECK(says(config_error(sparse + R"(, "num_experts_per_tok": 9})"), "9 of 8 experts"));
  CHECK(config_error(nemotron + R"("layers_block_type": ["mamba", "moe"]})") == "");
  CHECK(says(config_error(nemotron + R"("layers_block_type": ["mamba", "lstm"]})"), "lstm"));
  CHECK(says(config_error(nemotron + R"("hybrid_override_pattern": "M-x"})"), "\"x\""));
  CHECK(says(config_error(pattern + R"(, "layers_block_type": ["mamba"]})"), "another key M-*-"));
  CHECK(says(config_error(pattern + R"(, "num_hidden_layers": 5})"), "num_hidden_layers is 5"));
  CHECK(says(config_error(pattern + R"(, "mlp_hidden_act": "silu"})"), "relu2 is known"));
  CHECK(says(config_error(pattern + R"(, "norm_eps": 1e-6})"), "norm_eps is"));
  CHECK(says(config_error(pattern + R"(, "sliding_window": 512})"), "sliding_window"));
  CHECK(says(config_error(pattern + R"(, "mamba_num_heads": 12})"), "12 heads"));
  CHECK(says(config_error(pattern + R"(, "rope_scaling": {"type": "linear"}})"), "rope_scaling"));
  CHECK(says(config_error(R"({"model_type": "jamba", "attn_layer_offset": 8})"),
             "attn_layer_offset = 8"));
  CHECK(says(config_error(R"({"model_type": "bamba", "mamba_d_head": 48})"),
             "mamba_n_heads = 128 of mamba_d_head = 48"));
  CHECK(says(config_error(R"({"model_type": "bamba", "partial_rotary_factor": 0.25})"), "0.25"));
  CHECK(says(
      config_error(R"({"model_type": "granitemoehybrid", "position_embedding_type": "alibi"})"),
      "alibi"));
  CHECK(says(config_error(R"({"model_type": "lfm2", "block_dim": 7})"), "block_dim is 7"));
  const std::string rwkv = R"({"model_type": "rwkv7", "hidden_size": 96, )";
  CHECK(says(config_error(rwkv + R"("head_dim": 64})"), "head_dim = 64"));
  CHECK(says(config_error(rwkv + R"("num_heads": 3, "head_dim": 48})"), "num_heads = 3"));
  CHECK(says(config_error(rwkv + R"("num_heads": 3, "norm_bias": false})"), "norm_bias"));
  CHECK(says(config_error(rwkv + R"("num_heads": 3, "value_dim": [96, 48]})"), "value_dim 48"));
  CHECK(says(config_error(rwkv + R"("num_heads": 3, "attn": {"layers": [1]}})"), "attn"));
  CHECK(says(config_error(rwkv + R"("num_heads": 3, "v_low_rank_dim": 0})"), "v_low_rank_dim"));
  CHECK(config_error(rwkv + R"("num_heads": 3, "value_dim": 96, "norm_first": false})") == "");
  CHECK(says(config_error("{}"), "model_type"));
  CHECK(says(config_error("[]"), "not an object"));
  const auto settings = [](const std::string& json) {
    return print_settings(read_config(parse_config(json), "config.json").model.settings);
  };
  CHECK(settings(start +
                 R"(, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}})") ==
        settings(
            start +
            R"(, "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}})"));
  const std::string inner =
      R"("hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2)";
  CHECK(
      settings(R"({"model_type": "mistral", )" + inner + "}") ==
      settings(
          R"({"model_type": "mistral3", "vision_config": {}, "text_config": {"model_type": "mistral", )" +
          inner + "}}"));
  const std::string gemma = R"({"model_type": "gemma3_text", "sliding_window": 8, )";
  CHECK(
      settings(
          gemma +
          R"("rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8}})") ==
      settings(
          gemma +
          R"("rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 1e6},
                 "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})"));
}

TEST_CASE("stacks are written as a person would") {
  const auto text = [](const char* json) {
    return print_stack(read_config(parse_config(json), "config.json").model.settings.stack);
  };
  for (const TinyConfig& config : tiny_configs()) {
    const ModelSettings s = read_config(parse_config(config.json), config.name).model.settings;
    CHECK(parse_stack(print_stack(s.stack)) == s.stack);
  }
  CHECK(text(R"({"model_type": "llama"})") == "32 x (gqa, swiglu{ffn=11008})");
  CHECK(text(R"({"model_type": "mamba", "num_hidden_layers": 24})") == "24 x mamba");
  CHECK(text(R"({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M-*-",
               "layer_types": ["linear_attention", "mlp", "linear_attention", "mlp",
               "full_attention", "mlp"]})") ==
        "2 x (mamba2{groups=8}, mlp{ffn=21504,act=relu2}), gqa{kv_heads=8,rope=false}, "
        "mlp{ffn=21504,act=relu2}");
  CHECK(text(R"({"model_type": "mamba2", "n_groups": 1})") == "64 x mamba2");
  CHECK(text(R"({"ssm_cfg": {"layer": "Mamba2", "dt_limit": [0.0, 0.5]}})") ==
        "64 x mamba2{dt_max=0.5}");
  CHECK(
      text(R"({"model_type": "jamba"})")
          .starts_with("4 x (2 x (mamba{norms=true}, swiglu{ffn=14336}, mamba{norms=true}, moe{"));
  CHECK(text(R"({"model_type": "lfm2", "num_hidden_layers": 3, "full_attn_idxs": [2]})") ==
        "2 x (shortconv, swiglu{ffn=8192}), "
        "gqa{kv_heads=8,rope_theta=1e+06,qk_norm=head}, swiglu{ffn=8192}");
  CHECK(text(R"({"model_type": "bamba", "num_hidden_layers": 2, "attn_layer_indices": [1]})") ==
        "mamba2{state=256}, swiglu{ffn=14336}, gqa{kv_heads=8,rotary=0.5}, swiglu{ffn=14336}");
  const std::string next =
      text(R"({"model_type": "qwen3_next", "num_experts": 8, "num_experts_per_tok": 2})");
  CHECK(next.starts_with("12 x (3 x (gdn{"));
  std::vector<LayerSpec> layers;
  for (const char c : std::string("ababcababcd")) layers.push_back({std::string(1, c), {}});
  CHECK(print_stack(compress(layers)) == "2 x (2 x (a, b), c), d");
}

// The family's name, or why it cannot hold the stack.
std::string home_error(const char* stack, const char* family = "") {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  try {
    return find_home(s, family).family->name;
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
}

// A model with random weights in its home's form, read back.
void check_home(const Context& ctx, const std::string& to, const ModelSettings& settings,
                const char* family) {
  const HfHome home = find_home(settings, "");
  CHECK(home.family->name == std::string(family));
  Model model(ctx, settings);
  fill_random(ctx, model, 5);
  const FamilyModel read = read_config(home.config, "config.json").model;
  const TensorMap map = export_map(read, model.parameters());
  export_hf({&model, &map, home.config, [](const std::string&) { return "F32"; }, ""}, to,
            kTinyShard);
  const LoadedModel again = load_model(ctx, to, {.weights = WeightType::kF32});
  CHECK(logits_of(ctx, *again.model, {16}) == logits_of(ctx, model, {16}));
}

TEST_CASE("a family whose layers a model does not have cannot hold it, and says so") {
  for (const char* stack : {"2 x (mla, moe)", "2 x (kda, swiglu)", "2 x (gdn, moe)",
                            "2 x (mamba2, swiglu)", "2 x (mamba, moe)", "2 x (rwkv7, cmix)",
                            "2 x (gqa{bias=qkv}, swiglu)", "2 x (hymba, moe)"}) {
    for (const char* family : {"llama", "qwen3", "qwen3_moe", "qwen3_next", "gemma3", "gpt_oss",
                               "deepseek_v3", "lfm2", "mamba", "nemotron_h", "falcon_h1"}) {
      INFO(stack << " as " << family);
      CHECK(says(home_error(stack, family), "no published family holds this model: "));
    }
  }
  CHECK(says(home_error("mla, swiglu", "llama"), "llama has gqa layers, this model none"));
  const char* unstretched =
      "gqa{sinks=true,bias=qkvo}, "
      "moe{act=clamped,router_bias=true,expert_bias=true,balance=none}";
  CHECK(home_error(unstretched) == "gpt_oss");
}

TEST_CASE("state-space models that braid trained give the same logits from their published form") {
  const Context ctx;
  const ScratchFolder scratch("families-home");
  int folders = 0;
  const auto check = [&](const char* family, const char* stack, bool rwkv = false,
                         int64_t meta_tokens = 0) {
    INFO(stack);
    ModelSettings s;
    s.stack = parse_stack(stack, known_layers());
    s.width = 64;
    s.vocab = 64;
    s.meta_tokens = meta_tokens;
    if (rwkv) {
      s.norm = NormKind::kLayer;
      s.embedding_norm = true;
      s.norm_eps = 1e-5;
    }
    check_home(ctx, scratch / std::to_string(++folders), s, family);
  };
  check("mamba", "2 x mamba");
  check("mamba", "2 x mamba{state=8,dt_rank=3,expand=3,bias=true}");
  check("mamba2", "3 x mamba2{head_dim=16}");
  check("mamba2", "2 x mamba2{heads=8,head_dim=8,groups=2,dt_min=0.01,dt_max=0.5,bias=true}");
  check("nemotron_h",
        "2 x (mamba2{head_dim=16,groups=2}, mlp{act=relu2}), gqa{rope=false,heads=4}");
  check("nemotron_h",
        "2 x (mamba2{head_dim=16}, moe{gated=false,act=relu2,router=sigmoid,shared=32,scale=2.5}), "
        "gqa{rope=false,heads=4}");
  check("jamba",
        "2 x (mamba{norms=true}, swiglu, mamba{norms=true}, swiglu, "
        "gqa{rope=false,heads=4,kv_heads=2}, swiglu)");
  check("nemotron_h",
        "2 x (mamba2{head_dim=16}, moe{gated=false,act=relu2,router=sigmoid,shared=32,scale=2.5}), "
        "gqa{rope=false,heads=4}");
  check("jamba",
        "2 x (mamba{norms=true}, moe{ffn=32,renormalise=false,balance=none}, "
        "mamba{norms=true}, swiglu{ffn=32})");
  check("rwkv7", "3 x (rwkv7{head_dim=64}, cmix)", true);
  check("granitemoehybrid", "mamba2{head_dim=16}, swiglu, gqa{rope=false,heads=4}, swiglu");
  check("falcon_h1", "2 x (gqa{heads=4,kv_heads=2} + mamba2{head_dim=16}, swiglu)");
  check("falcon_h1",
        "mamba2{head_dim=16} + gqa{heads=4,kv_heads=2}, swiglu, "
        "gqa{heads=4,kv_heads=2} + mamba2{head_dim=16}, swiglu");
  check(
      "falcon_h1",
      "2 x (gqa{heads=4,scale=0.125,out_scale=0.9} + mamba2{head_dim=16,groups=2,bias=true,"
      "norm=none,in_scales=0.3:0.25:0.4:1:2,out_scale=0.5}, swiglu{gate_scale=0.9,out_scale=0.6})");
  check("hymba", "2 x (hymba{heads=4,kv_heads=2,state=5,rope_theta=500}, swiglu)");
  check("hymba",
        "hymba{heads=4}, swiglu, 2 x (hymba{as=kv,heads=4,window=6}, swiglu, "
        "hymba{of=kv,heads=4,window=6}, swiglu)",
        false, 8);
}

TEST_CASE("what braid trains has a published home, or the layer that has none is named") {
  CHECK(home_error("2 x (gqa, swiglu)") == "llama");
  CHECK(home_error("2 x (gqa{qk_norm=head}, swiglu)") == "qwen3");
  for (const char* scaling :
       {"linear:4", "dynamic:2:64", "llama3:8:1:4:32", "yarn:4:32:16:2:false:1.2"})
    CHECK(home_error(format("gqa{{rope_scaling={}}}, swiglu", scaling).c_str()) == "llama");
  CHECK(says(home_error("gqa{heads=4,head_dim=4,rope_scaling=longrope:64:1.2:1:2:3:4}, swiglu"),
             "longrope"));
  CHECK(says(home_error("2 x (mla, swiglu)"), "deepseek_v3 has mla and moe"));
  CHECK(says(home_error("gqa{sinks=true}, moe{act=clamped,alpha=2}"), "alpha=2"));
  CHECK(home_error("3 x (gdn, swiglu), gqa{gate=true,qk_norm=head}, swiglu") == "qwen3_next");
  CHECK(home_error("kda, swiglu, mla{rope=false}, moe{router=sigmoid}") == "kimi_linear");
  CHECK(home_error("2 x (shortconv, swiglu), gqa{qk_norm=head,kv_heads=1}, swiglu") == "lfm2");
  CHECK(says(home_error("shortconv, swiglu, gqa, swiglu"), "layer 2 is gqa{"));
  CHECK(home_error("3 x (mamba2, swiglu), gqa{rope=false,kv_heads=1}, swiglu") ==
        "granitemoehybrid");
  CHECK(home_error("mamba2, moe{shared=32,balance=none}, gqa, moe{shared=32,balance=none}") ==
        "granitemoehybrid");
  CHECK(says(home_error("mamba2{norm=before}, swiglu"), "norm=before"));
  CHECK(says(home_error("2 x mamba2{norm=before}"), "norm=before"));
  CHECK(says(home_error("2 x mamba2{channel_skip=true}"), "channel_skip=true"));
  CHECK(says(home_error("2 x mamba2{norm_groups=1,groups=2}"), "norm_groups=1"));
  CHECK(says(home_error("mamba2, mamba2{state=16}"), "layer 1 is mamba2{"));
  CHECK(says(home_error("2 x mamba{inner=72}"), "inner=72"));
  CHECK(says(home_error("2 x mamba{conv=0}"), "0 taps"));
  CHECK(says(home_error("2 x mamba2{conv=0}"), "0 taps"));
  CHECK(says(home_error("2 x mamba{norms=true}"), "norms=true"));
  CHECK(says(home_error("mamba2, mlp"), "layer 1 is mlp{ffn=256}"));
  CHECK(says(home_error("mamba2, mlp{act=relu2}, gqa"), "layer 2 is gqa{"));
  CHECK(says(home_error("mamba, swiglu"), "norms=true"));
  CHECK(says(home_error("2 x (rwkv7, cmix)"), "layer 0 is rwkv7{"));
  CHECK(says(home_error("rwkv7, cmix, gqa, swiglu"), "rwkv7"));
  CHECK(says(home_error("2 x (mamba{norms=true}, swiglu), gqa{rope=false}"), "5 sub-layers"));
  CHECK(home_error("gqa + mamba2, swiglu") == "falcon_h1");
  CHECK(home_error("mamba2 + gqa, swiglu") == "falcon_h1");
  CHECK(says(home_error("gqa | mamba2, swiglu"), "layer 0 is gqa{"));
  CHECK(says(home_error("gqa{window=8} + mamba2, swiglu"), "window=8"));
  CHECK(says(home_error("gqa + mamba2{norm_groups=1,groups=2}, swiglu"), "norm_groups=1"));
  CHECK(home_error("hymba, swiglu") == "hymba");
  CHECK(says(home_error("hymba{window=8}, swiglu, hymba{window=4}, swiglu"), "window=4"));
  CHECK(says(home_error("hymba{as=a}, swiglu, hymba{of=a}, swiglu"), "as=a"));
  CHECK(says(home_error("gla, swiglu"), "layer 0 is gla"));
  CHECK(says(home_error("gqa, swiglu, gqa{window=8}, swiglu"), "layer 2 is gqa{"));
  CHECK(says(home_error("gdn{neg_eigval=true}, swiglu"), "neg_eigval=true"));
  CHECK(says(home_error("loop 2 x (gqa, swiglu)"), "loop"));
}

TEST_CASE("packed weights are saved, mapped and give the same logits") {
  const Context ctx;
  const ScratchFolder scratch("packed");
  const std::string json = R"({"model_type": "qwen3", "vocab_size": 128, "hidden_size": 128,
      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 64, "tie_word_embeddings": true})";
  const TinyConfig config{"qwen3", json.c_str()};
  const std::string folder = make_checkpoint(ctx, scratch, config, "BF16");
  for (const WeightType type : {WeightType::kBF16, WeightType::kQ8, WeightType::kQ4}) {
    const LoadedModel loaded = load_model(ctx, folder, {.weights = type});
    SafetensorsWriter writer;
    add_weights(writer, loaded.model->parameters());
    const std::string to = scratch / weight_type_name(type);
    make_folders(to);
    writer.write(join_path(to, "weights.safetensors"));
    write_file(join_path(to, "model.toml"), print_settings(loaded.model->settings()));
    const LoadedModel again = load_model(ctx, to);
    CHECK(logits_of(ctx, *again.model, {16}) == logits_of(ctx, *loaded.model, {16}));
    CHECK(again.model->parameters().bytes() == loaded.model->parameters().bytes());
  }
  try {
    Context small;
    small.arena = Arena::create(Arena::Mode::kReal, 1000);
    load_model(small, folder);
    FAIL("a budget of 1000 bytes was not enforced");
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBudget);
  }
}

}  // namespace
}  // namespace braid::testing

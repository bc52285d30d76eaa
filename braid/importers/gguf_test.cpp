// A checkpoint written as GGUF and read back is the checkpoint.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_export.h"
#include "braid/importers/gguf_generation.h"
#include "braid/importers/gguf_links.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_source.h"
#include "braid/stack/settings.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

// Random tensors of the names and shapes that a config asks for.
class RandomSource final : public TensorSource {
 public:
  explicit RandomSource(const GgufModel& model) {
    for (const GgufLink& link : gguf_links(model)) {
      for (const GgufLink::Piece& piece : link.pieces) {
        if (values_.contains(piece.hf)) continue;
        SourceTensor t{piece.hf, piece.hf_shape, "F32", "F32"};
        t.output_major = link.output_major;
        std::vector<float>& v = values_[piece.hf];
        v.resize(static_cast<size_t>(t.count()));
        const Rng rng(3, piece.hf);
        for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(0.1 * rng.normal(i));
        t.bytes = v.size() * sizeof(float);
        tensors_.push_back(std::move(t));
      }
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
  }
  const std::string& path() const override { return path_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    std::memcpy(out, values_.at(t.name).data() + first * columns,
                static_cast<size_t>(rows * columns) * sizeof(float));
  }
  std::span<const std::byte> raw(const SourceTensor&) const override { return {}; }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return nullptr; }

 private:
  std::string path_ = "random";
  std::vector<SourceTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

// The same with experts as MXFP4 keeps them.
class RoundedSource final : public TensorSource {
 public:
  explicit RoundedSource(const TensorSource& plain) : plain_(plain), tensors_(plain.tensors()) {
    for (SourceTensor& t : tensors_)
      if (t.name.ends_with("experts.gate_up_proj") || t.name.ends_with("experts.down_proj"))
        t.stored = "MXFP4";
  }
  const std::string& path() const override { return plain_.path(); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    plain_.read(t, first, rows, columns, out);
    if (t.stored != "MXFP4") return;
    std::vector<std::byte> row(static_cast<size_t>(ggml_row_bytes(GgmlType::kMxfp4, columns)));
    for (int64_t r = 0; r < rows; ++r, out += columns) {
      encode_row(GgmlType::kMxfp4, out, columns, row.data());
      decode_row(GgmlType::kMxfp4, row.data(), columns, out);
    }
  }
  std::span<const std::byte> raw(const SourceTensor&) const override { return {}; }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return nullptr; }

 private:
  const TensorSource& plain_;
  std::vector<SourceTensor> tensors_;
};

std::vector<float> all_of(const TensorSource& source, const SourceTensor& t) {
  std::vector<float> out(static_cast<size_t>(t.count()));
  source.read(t, 0, t.count() / t.shape.back(), t.shape.back(), out.data());
  return out;
}

Json config(const char* text) {
  std::string full = R"({"vocab_size":256,"hidden_size":64,"num_hidden_layers":4,
    "num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":96,
    "max_position_embeddings":128,"tie_word_embeddings":false,)";
  return Json::parse(full + text + "}");
}

// With none of the usual keys.
Json bare(const char* text) {
  return Json::parse(std::string(R"({"vocab_size":256,)") + text + "}");
}

const std::pair<const char*, Json> kConfigs[] = {
    {"llama", config(R"("model_type":"llama","head_dim":16,"hidden_act":"silu","rope_theta":500000,
      "rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,
      "original_max_position_embeddings":8192})")},
    {"llama with biases", config(R"("model_type":"llama","attention_bias":true)")},
    {"qwen2", config(R"("model_type":"qwen2")")},
    {"qwen3", config(R"("model_type":"qwen3","head_dim":32)")},
    {"qwen3moe", config(R"("model_type":"qwen3_moe","head_dim":16,"num_experts":4,
      "num_experts_per_tok":2,"moe_intermediate_size":32,"norm_topk_prob":true)")},
    {"gemma3", config(R"("model_type":"gemma3_text","head_dim":16,"query_pre_attn_scalar":16,
      "sliding_window":8,"rope_local_base_freq":10000,"rope_theta":1000000)")},
    {"qwen3next", config(R"("model_type":"qwen3_next","head_dim":32,"num_experts":4,
      "num_experts_per_tok":2,"moe_intermediate_size":32,"norm_topk_prob":true,
      "shared_expert_intermediate_size":32,"linear_num_key_heads":2,"linear_num_value_heads":4,
      "linear_key_head_dim":16,"linear_value_head_dim":16,"linear_conv_kernel_dim":4)")},
    {"kimi-linear", bare(R"("model_type":"kimi_linear","hidden_size":64,"num_hidden_layers":4,
      "num_attention_heads":4,"num_key_value_heads":4,"intermediate_size":96,
      "model_max_length":128,"rms_norm_eps":1e-5,"tie_word_embeddings":false,"num_experts":4,
      "num_experts_per_token":2,"moe_intermediate_size":32,"moe_renormalize":true,
      "num_shared_experts":1,"first_k_dense_replace":1,"routed_scaling_factor":2.446,
      "kv_lora_rank":32,"qk_nope_head_dim":16,"qk_rope_head_dim":8,"v_head_dim":16,"mla_use_nope":true,
      "linear_attn_config":{"head_dim":16,"num_heads":4,"short_conv_kernel_size":4,
      "kda_layers":[1,2,3],"full_attn_layers":[4]})")},
    {"gpt-oss", config(R"("model_type":"gpt_oss","head_dim":16,"num_local_experts":4,
      "num_experts_per_tok":2,"sliding_window":8,"rope_theta":150000,"rope_scaling":{
      "rope_type":"yarn","factor":32,"original_max_position_embeddings":64,"truncate":false})")},
    {"deepseek2", config(R"("model_type":"deepseek_v3","n_routed_experts":8,"n_group":4,
      "topk_group":2,"num_experts_per_tok":2,"moe_intermediate_size":32,"n_shared_experts":1,
      "first_k_dense_replace":1,"routed_scaling_factor":2.5,"norm_topk_prob":true,"q_lora_rank":48,
      "kv_lora_rank":32,"qk_nope_head_dim":16,"qk_rope_head_dim":8,"v_head_dim":16,
      "rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":32,
      "mscale":1.0,"mscale_all_dim":1.0,"beta_fast":16,"beta_slow":2})")},
    {"glm4moe", config(R"("model_type":"glm4_moe","head_dim":16,"n_routed_experts":4,
      "num_experts_per_tok":2,"moe_intermediate_size":32,"n_shared_experts":1,"use_qk_norm":true,
      "attention_bias":true,"first_k_dense_replace":1,"routed_scaling_factor":1.5,
      "norm_topk_prob":true,"partial_rotary_factor":0.5)")},
    {"gemma2", config(R"("model_type":"gemma2","head_dim":16,"query_pre_attn_scalar":16,
      "sliding_window":8,"attn_logit_softcapping":40.0,"final_logit_softcapping":20.0)")},
    {"smollm3", config(R"("model_type":"smollm3","no_rope_layers":[1,1,1,0])")},
    {"olmo2", config(R"("model_type":"olmo2")")},
    {"olmo3",
     config(
         R"("model_type":"olmo3","sliding_window":8,"rope_theta":500000,"rope_scaling":{"rope_type":"yarn",
      "factor":4,"original_max_position_embeddings":32,"attention_factor":1.25})")},
    {"minimax-m2", config(R"("model_type":"minimax_m2","head_dim":16,"rotary_dim":8,
      "num_local_experts":4,"num_experts_per_tok":2,"use_qk_norm":true,"qk_norm_type":"per_layer",
      "scoring_func":"sigmoid","use_routing_bias":true)")},
    {"qwen35", config(R"("model_type":"qwen3_5_text","head_dim":32,"linear_num_key_heads":2,
      "linear_num_value_heads":4,"linear_key_head_dim":16,"linear_value_head_dim":16)")},
    {"qwen35moe", bare(R"("model_type":"qwen3_5_moe_text","hidden_size":64,"num_hidden_layers":4,
      "num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,"num_experts":4,
      "num_experts_per_tok":2,"moe_intermediate_size":32,"shared_expert_intermediate_size":32,
      "linear_num_key_heads":2,"linear_num_value_heads":6,"linear_key_head_dim":16,
      "linear_value_head_dim":16,"max_position_embeddings":128,"tie_word_embeddings":false)")},
    {"gpt2", bare(R"("model_type":"gpt2","n_embd":64,"n_layer":2,"n_head":4,"n_inner":96,
      "n_positions":32,"tie_word_embeddings":false)")},
};

std::string open_error(const std::string& path) {
  try {
    open_gguf_checkpoint(path);
    return "no error";
  } catch (const Error& e) {
    return e.what();
  }
}

Json with_tie(Json c) {
  if (c.at("model_type").as_string().starts_with("gemma")) c.set("tie_word_embeddings", true);
  return c;
}

Json config_named(std::string_view name) {
  const auto* found = std::find_if(std::begin(kConfigs), std::end(kConfigs),
                                   [&](const auto& c) { return name == c.first; });
  REQUIRE(found != std::end(kConfigs));
  return with_tie(found->second);
}

TEST_CASE("every architecture comes back from its file: tensors and config") {
  const ScratchFolder scratch("gguf_export");
  const Context ctx;
  for (const auto& [name, raw] : kConfigs) {
    CAPTURE(name);
    const Json c = with_tie(raw);
    const GgufModel model = gguf_model_of_config(c, name);
    const RandomSource source(model);
    const std::string path = scratch / "m.gguf";
    export_gguf(ctx, {&source, c, "", "test", GgmlType::kF32}, path);
    auto file = std::make_shared<const GgufFile>(GgufFile::open(path));
    const GgufModel back = gguf_model_of(*file);
    CHECK(hf_config_of(back) == hf_config_of(model));
    // The family understands what comes back, all tensors have a place, and it is the same model.
    CHECK(print_settings(open_gguf_checkpoint(file).config.model.settings) ==
          print_settings(read_config(c, name).model.settings));
    if (const GgufTensor* decays = file->find_tensor("blk.0.ssm_a"); decays && back.arch[0] == 'k')
      CHECK(decays->shape == std::vector<int64_t>{1, 1, 4, 1});  // as its readers demand
    const auto read = open_gguf_source(file, back);
    REQUIRE(read->tensors().size() == source.tensors().size());
    for (const SourceTensor& t : source.tensors()) {
      CAPTURE(t.name);
      const SourceTensor* r = read->find(t.name);
      REQUIRE(r != nullptr);
      CHECK(r->shape == t.shape);
      const std::vector<float> want = all_of(source, t), got = all_of(*read, *r);
      double worst = 0;
      for (size_t i = 0; i < want.size(); ++i)
        worst = std::max(worst, std::fabs(double(want[i]) - double(got[i])));
      // Norms gain one and lose it again, decays pass through exp and log.
      CHECK(worst <= 2e-7);
      if (!t.name.ends_with("norm.weight") && !t.name.ends_with("A_log")) CHECK(worst == 0);
    }
  }
}

TEST_CASE("what a config.json leaves out is its class's in a file too, or has no form") {
  const Context ctx;
  const ScratchFolder scratch("gguf_defaults");
  const auto written = [&](const Json& c) {
    const RandomSource source(gguf_model_of_config(c, "c"));
    const std::string path = scratch / "m.gguf";
    remove_file(path);
    export_gguf(ctx, {&source, c, "", "", GgmlType::kF32}, path);
    auto file = std::make_shared<const GgufFile>(GgufFile::open(path));
    return print_stack(open_gguf_checkpoint(file).config.model.settings.stack);
  };
  const Json deepseek = with_tie(config(R"("model_type":"deepseek_v3","q_lora_rank":null,
      "kv_lora_rank":32,"qk_nope_head_dim":16,"qk_rope_head_dim":8,"v_head_dim":16,
      "n_routed_experts":16,"num_experts_per_tok":2,"moe_intermediate_size":32)"));
  CHECK(written(deepseek) == print_stack(read_config(deepseek, "c").model.settings.stack));
  Json gpt_oss = with_tie(config(R"("model_type":"gpt_oss","sliding_window":8,
      "num_local_experts":4,"num_experts_per_tok":2,"head_dim":16)"));
  CHECK_THROWS_WITH(written(gpt_oss), doctest::Contains("gpt-oss without rope_scaling"));
  gpt_oss.set("rope_scaling", Json::object({{"rope_type", "default"}}));
  CHECK(written(gpt_oss).find("rope_scaling") == std::string::npos);
  const Json gemma = with_tie(config(R"("model_type":"gemma2","head_dim":16,
      "query_pre_attn_scalar":16,"hidden_activation":"gelu_pytorch_tanh")"));
  CHECK(written(gemma) == print_stack(read_config(gemma, "c").model.settings.stack));
}

TEST_CASE("number formats: what is stored is what a reader of ggml decodes") {
  const ScratchFolder scratch("gguf_types");
  const Context ctx;
  const Json c = kConfigs[3].second;
  const GgufModel model = gguf_model_of_config(c, "qwen3");
  const RandomSource source(model);
  for (const GgmlType type : {GgmlType::kF16, GgmlType::kBF16, GgmlType::kQ8_0, GgmlType::kQ4_0}) {
    const std::string path = scratch / "m.gguf";
    export_gguf(ctx, {&source, c, "", "", type}, path);
    auto file = std::make_shared<const GgufFile>(GgufFile::open(path));
    CHECK(file->find_tensor("blk.0.attn_q.weight")->type == type);
    CHECK(file->find_tensor("blk.0.attn_norm.weight")->type == GgmlType::kF32);
    const auto read = open_gguf_source(file, gguf_model_of(*file));
    const char* name = "model.layers.1.self_attn.q_proj.weight";
    const std::vector<float> want = all_of(source, *source.find(name));
    std::vector<std::byte> bytes(static_cast<size_t>(ggml_row_bytes(type, 64)));
    std::vector<float> row(64);
    const std::vector<float> got = all_of(*read, *read->find(name));
    for (size_t r = 0; r < want.size() / 64; ++r) {
      encode_row(type, want.data() + 64 * r, 64, bytes.data());
      decode_row(type, bytes.data(), 64, row.data());
      CHECK(std::memcmp(row.data(), got.data() + 64 * r, 256) == 0);
    }
  }
}

TEST_CASE("what has no GGUF form is refused by name") {
  const auto error = [](const char* text) {
    try {
      gguf_model_of_config(config(text), "c");
      return std::string("no error");
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(error(R"("model_type":"rwkv7")"), "model_type \"rwkv7\" has no GGUF form"));
  CHECK(has(error(R"("model_type":"gpt_oss","sliding_window":8,"num_local_experts":4,
             "num_experts_per_tok":2,"rope_scaling":{"rope_type":"yarn","factor":2})"),
            "yarn with truncate true has no GGUF form for gpt-oss"));
  CHECK(has(error(R"("model_type":"gpt_oss","sliding_window":8,"num_local_experts":4,
             "num_experts_per_tok":2,"swiglu_limit":5,"rope_scaling":{"rope_type":"default"})"),
            "swiglu_limit 5 has no GGUF form"));
  const auto scaled = [](const char* type, const char* numbers) {
    return format(R"("model_type":"{}","q_lora_rank":48,"kv_lora_rank":32,"qk_nope_head_dim":16,
                  "qk_rope_head_dim":8,"v_head_dim":16,"rope_scaling":{{"type":"yarn","factor":2,{}}})",
                  type, numbers);
  };
  CHECK(has(error(scaled("deepseek_v3", R"("mscale":1,"mscale_all_dim":0.5)").c_str()),
            "mscale 1 and mscale_all_dim 0.5 has no GGUF form, only the same for both"));
  CHECK(has(error(scaled("qwen3", R"("mscale":1,"mscale_all_dim":1)").c_str()),
            "has no GGUF form here"));
  CHECK(has(error(R"("model_type":"smollm3","no_rope_layers":[1,0,1,0])"),
            "other layers than every fourth"));
  CHECK(has(error(R"("model_type":"olmo3","layer_types":["full_attention","sliding_attention",
             "sliding_attention","full_attention"])"),
            "other than every fourth"));
  Json uncapped = with_tie(config(R"("model_type":"gemma2","head_dim":16,
      "query_pre_attn_scalar":16,"attn_logit_softcapping":null)"));
  CHECK_THROWS_WITH(gguf_model_of_config(uncapped, "c"),
                    "c: gemma2 without its soft caps has no GGUF form");
  CHECK(has(error(R"("model_type":"qwen3","rope_scaling":{"rope_type":"dynamic","factor":2})"),
            "\"dynamic\" has no GGUF form"));
  CHECK(has(error(R"("model_type":"qwen3_moe","num_experts":4,"num_experts_per_tok":2,
             "moe_intermediate_size":32,"norm_topk_prob":false)"),
            "norm_topk_prob false"));
  for (const char* context : {"1e300", "8192.5", "-1"}) {
    const std::string scaling =
        format(R"("model_type":"qwen3","rope_scaling":{{"rope_type":"yarn","factor":2,)"
               R"("original_max_position_embeddings":{}}})",
               context);
    CHECK(has(error(scaling.c_str()), "original_max_position_embeddings is "));
  }
  CHECK(has(error(R"("model_type":"qwen3","partial_rotary_factor":1e300)"),
            "partial_rotary_factor is 1e+300"));
}

TEST_CASE("a file that lacks what its keys promise is an error") {
  const ScratchFolder scratch("gguf_broken");
  const auto error = [&](const GgufWriter& w) {
    w.write(scratch / "b.gguf");
    return open_error(scratch / "b.gguf");
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  GgufWriter w;
  CHECK(has(error(w), "general.architecture is \"\"; known: llama"));
  w.set("general.architecture", GgufValue::string("qwen3"));
  CHECK(has(error(w), "no key \"qwen3.block_count\""));
  w.set("qwen3.block_count", GgufValue::u32(100000));
  CHECK(has(error(w), "qwen3.block_count is 100000"));
  w.set("qwen3.block_count", GgufValue::u32(1));
  w.set("qwen3.embedding_length", GgufValue::string("64"));
  CHECK(has(error(w), "\"qwen3.embedding_length\" is the string \"64\", not an integer"));
  w.set("qwen3.embedding_length", GgufValue::u32(64));
  w.set("qwen3.attention.head_count", GgufValue::u32(4));
  CHECK(has(error(w), "no matrix token_embd.weight"));
  w.add("token_embd.weight", GgmlType::kF32, {8, 64}, [](ByteSink sink) {
    const std::vector<float> zeros(512);
    sink(zeros.data(), 2048);
  });
  CHECK(has(error(w), "missing: "));
  w.add("output_norm.weight", GgmlType::kF32, {32}, [](ByteSink sink) {
    const std::vector<float> zeros(32);
    sink(zeros.data(), 128);
  });
  CHECK(has(error(w), "\"output_norm.weight\" is [32]; the keys say [64]"));
}

TEST_CASE("files of architectures with a router that braid does not have are refused") {
  const ScratchFolder scratch("gguf_router");
  const auto error = [&](const char* name, const char* key, const GgufValue& value) {
    GgufWriter w;
    put_metadata(w, gguf_model_of_config(config_named(name), name));
    w.set(key, value);
    w.write(scratch / "r.gguf");
    try {
      gguf_model_of(GgufFile::open(scratch / "r.gguf"));
      return std::string("no error");
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  CHECK(error("deepseek2", "deepseek2.expert_gating_func", GgufValue::u32(1))
            .find("a router with softmax has no form here") != std::string::npos);
  CHECK(error("minimax-m2", "minimax-m2.expert_gating_func", GgufValue::u32(3))
            .find("expert_gating_func is 3") != std::string::npos);
  CHECK(error("deepseek2", "deepseek2.attention.key_length_mla", GgufValue::u32(8))
            .find("attention.key_length_mla leaves 0 channels") != std::string::npos);
  CHECK(error("olmo2", "olmo2.attention.key_length", GgufValue::u32(24))
            .find("attention.key_length and attention.value_length differ") != std::string::npos);
}

// The same tensors under the names of a checkpoint with other towers.
class NestedSource final : public TensorSource {
 public:
  explicit NestedSource(const TensorSource& plain) : plain_(plain), tensors_(plain.tensors()) {
    for (SourceTensor& t : tensors_)
      t.name = t.name.starts_with("model.") ? "model.language_" + t.name : t.name;
    std::sort(tensors_.begin(), tensors_.end(),
              [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
  }
  const std::string& path() const override { return plain_.path(); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    SourceTensor own = t;
    if (t.name.starts_with("model.language_")) own.name = t.name.substr(15);
    plain_.read(own, first, rows, columns, out);
  }
  std::span<const std::byte> raw(const SourceTensor&) const override { return {}; }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return nullptr; }

 private:
  const TensorSource& plain_;
  std::vector<SourceTensor> tensors_;
};

TEST_CASE("a text model within a larger one is written as it is alone") {
  const ScratchFolder scratch("gguf_nested");
  const Context ctx;
  const Json c = config_named("qwen35");
  const RandomSource plain(gguf_model_of_config(c, "c"));
  const NestedSource nested(plain);
  Json outer = Json::object();
  outer.set("model_type", "qwen3_5");
  outer.set("text_config", c);
  export_gguf(ctx, {&plain, c, "", "", GgmlType::kF32}, scratch / "a.gguf");
  export_gguf(ctx, {&nested, outer, "", "", GgmlType::kF32}, scratch / "b.gguf");
  CHECK(read_file(scratch / "a.gguf", 1 << 24) == read_file(scratch / "b.gguf", 1 << 24));
}

TEST_CASE("experts in MXFP4 stay in MXFP4, number for number") {
  const ScratchFolder scratch("gguf_mxfp4");
  const Context ctx;
  Json c = config_named("gpt-oss");
  c.set("intermediate_size", 64);
  const RandomSource plain(gguf_model_of_config(c, "c"));
  const RoundedSource source(plain);
  export_gguf(ctx, {&source, c, "", "", GgmlType::kBF16}, scratch / "m.gguf");
  auto file = std::make_shared<const GgufFile>(GgufFile::open(scratch / "m.gguf"));
  for (const char* name : {"gate", "up", "down"})
    CHECK(file->find_tensor(format("blk.0.ffn_{}_exps.weight", name))->type == GgmlType::kMxfp4);
  CHECK(file->find_tensor("blk.0.attn_q.weight")->type == GgmlType::kBF16);
  const auto read = open_gguf_source(file, gguf_model_of(*file));
  for (const char* name : {"gate_up_proj", "down_proj"}) {
    const std::string path = format("model.layers.1.mlp.experts.{}", name);
    CHECK(all_of(*read, *read->find(path)) == all_of(source, *source.find(path)));
  }
  export_gguf(ctx, {&source, c, "", "", GgmlType::kF32}, scratch / "f.gguf");
  const GgufFile exact = GgufFile::open(scratch / "f.gguf");
  CHECK(exact.find_tensor("blk.0.ffn_up_exps.weight")->type == GgmlType::kF32);
}

// What rope_scaling a config's file gives back. Other writers leave the context of llama3 out.
Json scaling_back(const ScratchFolder& scratch, const Json& c, bool context_key) {
  const Context ctx;
  const GgufModel model = gguf_model_of_config(c, "c");
  const RandomSource source(model);
  export_gguf(ctx, {&source, c, "", "", GgmlType::kF32}, scratch / "a.gguf");
  const GgufFile file = GgufFile::open(scratch / "a.gguf");
  if (context_key) return hf_config_of(gguf_model_of(file)).at("rope_scaling");
  GgufWriter w;
  for (const auto& [key, value] : file.values())
    if (!key.ends_with("original_context_length")) w.set(key, value);
  for (const GgufTensor& t : file.tensors())
    w.add(t.name, t.type, t.shape,
          [&file, &t](ByteSink sink) { sink(file.bytes(t).data(), file.bytes(t).size()); });
  w.write(scratch / "b.gguf");
  return hf_config_of(gguf_model_of(GgufFile::open(scratch / "b.gguf"))).at("rope_scaling");
}

Json scaled(const char* type, const std::string& scaling, const char* more = "") {
  return with_tie(config(
      format(R"("model_type":"{}","rope_theta":500000,"rope_scaling":{}{})", type, scaling, more)
          .c_str()));
}

TEST_CASE("the scaling of positions comes back from a file") {
  const ScratchFolder scratch("gguf_rope");
  const auto llama3 = [](const char* numbers) {
    return format(R"({{"rope_type":"llama3",{}}})", numbers);
  };
  // Factor, context, limits and channels of a head; Llama 3.1 and 3.2 first.
  const std::tuple<const char*, const char*, bool> kLlama3[] = {
      {R"("factor":8.0,"original_max_position_embeddings":8192,"low_freq_factor":1.0,
          "high_freq_factor":4.0)",
       R"(,"head_dim":128)", true},
      {R"("factor":32.0,"original_max_position_embeddings":8192,"low_freq_factor":1.0,
          "high_freq_factor":4.0)",
       R"(,"head_dim":64)", true},
      {R"("factor":4.0,"original_max_position_embeddings":2048,"low_freq_factor":1.0,
          "high_freq_factor":4.0)",
       R"(,"head_dim":64)", true},
      // No blend, and one.
      {R"("factor":8.0,"original_max_position_embeddings":32,"low_freq_factor":1.0,
          "high_freq_factor":4.0)",
       R"(,"head_dim":16)", true},
      {R"("factor":8.0,"original_max_position_embeddings":16384,"low_freq_factor":1.0,
          "high_freq_factor":4.0)",
       R"(,"head_dim":8)", true},
      // Other limits are known up to the context they are counted in.
      {R"("factor":16.0,"original_max_position_embeddings":1000,"low_freq_factor":2.0,
          "high_freq_factor":8.5)",
       R"(,"head_dim":64)", false}};
  for (const auto& [numbers, heads, alone] : kLlama3) {
    const Json c = scaled("llama", llama3(numbers), heads);
    INFO(numbers, " ", scaling_back(scratch, c, true).dump());
    CHECK(scaling_back(scratch, c, true) == c.at("rope_scaling"));
    if (alone) {
      CHECK(scaling_back(scratch, c, false) == c.at("rope_scaling"));
    } else {
      const Json back = scaling_back(scratch, c, false);
      CHECK(back.at("rope_type") == Json("llama3"));
      CHECK(back.at("high_freq_factor").as_real() / back.at("low_freq_factor").as_real() ==
            doctest::Approx(8.5 / 2).epsilon(1e-3));
    }
  }
  for (const char* type : {"llama", "qwen2", "qwen3", "gemma3_text"}) {
    CAPTURE(type);
    const char* more = std::string_view(type) == "gemma3_text"
                           ? R"(,"head_dim":16,"query_pre_attn_scalar":16,"sliding_window":8)"
                           : R"(,"head_dim":16)";
    for (const char* scaling :
         {R"({"rope_type":"linear","factor":8.0})",
          R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32})",
          R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32,
              "attention_factor":1.0})",
          R"({"rope_type":"yarn","factor":40.0,"original_max_position_embeddings":4096,
              "attention_factor":1.25})"}) {
      INFO(scaling);
      const Json c = scaled(type, scaling, more);
      CHECK(scaling_back(scratch, c, true) == c.at("rope_scaling"));
    }
  }
}

TEST_CASE("divisors that no rule of Llama 3 gives stay as they stand") {
  const ScratchFolder scratch("gguf_longrope");
  const Json c = scaled("llama", R"({"rope_type":"longrope","attention_factor":1.0,
      "original_max_position_embeddings":64,"short_factor":[1.0,3.0,2.0,5.0],"long_factor":[1.0,3.0,2.0,5.0]})",
                        R"(,"head_dim":8)");
  const Json back = scaling_back(scratch, c, true);
  CHECK(back.at("rope_type") == Json("longrope"));
  CHECK(back.at("short_factor") == c.at("rope_scaling").at("short_factor"));
  CHECK(back.at("original_max_position_embeddings") == Json(64));
}

TEST_CASE("start, end and padding tokens, sampling and the class come back") {
  const ScratchFolder scratch("gguf_ids");
  const Context ctx;
  GenerationDefaults d;
  d.bos = 1;
  d.pad = 3;
  d.eos = {7, 9, 2, 11};
  d.temperature = 0.6;
  d.top_p = 0.95;
  d.top_k = 20;
  d.repetition_penalty = 1.05;
  const Json c = kConfigs[3].second;
  const GgufModel model = gguf_model_of_config(c, "c");
  const RandomSource source(model);
  GgufExport what{&source, c, "", "", GgmlType::kF32};
  what.generation = d;
  export_gguf(ctx, what, scratch / "a.gguf");
  const GgufFile file = GgufFile::open(scratch / "a.gguf");
  CHECK(file.uint("tokenizer.ggml.eos_token_id") == 7);
  CHECK(file.uint("tokenizer.ggml.eot_token_id") == 9);
  CHECK(file.uint("tokenizer.ggml.eom_token_id") == 2);
  const Json back = gguf_hf_config(file);
  CHECK(back.at("architectures") == Json::array({"Qwen3ForCausalLM"}));
  CHECK(back.at("bos_token_id") == Json(1));
  CHECK(back.at("pad_token_id") == Json(3));
  CHECK(back.at("eos_token_id") == Json::array({7, 9, 2, 11}));
  const Json generation = generation_config_of(gguf_generation_defaults(file));
  CHECK(generation == generation_config_of(d));
  CHECK(generation.at("temperature") == Json(0.6));
  CHECK(generation.at("do_sample") == Json(true));
  GenerationDefaults greedy;
  greedy.temperature = 0;
  CHECK(generation_config_of(greedy) == Json::object({{"do_sample", false}}));
}

TEST_CASE("blocks of numbers that change places one by one are refused") {
  const ScratchFolder scratch("gguf_block_vector");
  const Context ctx;
  Json c = config_named("gpt-oss");
  c.set("intermediate_size", 64);
  const RandomSource source(gguf_model_of_config(c, "c"));
  export_gguf(ctx, {&source, c, "", "", GgmlType::kF32}, scratch / "a.gguf");
  const GgufFile file = GgufFile::open(scratch / "a.gguf");
  GgufWriter w;
  for (const auto& [key, value] : file.values()) w.set(key, value);
  for (const GgufTensor& t : file.tensors()) {
    const bool turned = t.name == "blk.0.ffn_up_exps.bias";
    const std::vector<std::byte> zeros(
        static_cast<size_t>(ggml_row_bytes(GgmlType::kQ8_0, t.count() / 32 * 32)));
    w.add(t.name, turned ? GgmlType::kQ8_0 : t.type, t.shape,
          [&file, &t, turned, zeros](ByteSink sink) {
            turned ? sink(zeros.data(), zeros.size())
                   : sink(file.bytes(t).data(), file.bytes(t).size());
          });
  }
  w.write(scratch / "b.gguf");
  const std::string what = open_error(scratch / "b.gguf");
  CHECK(what.find("\"blk.0.ffn_up_exps.bias\" is Q8_0, whose blocks hold more than a row of 1") !=
        what.npos);
}

TEST_CASE("a tensor of a type that is not decoded is named with it") {
  const ScratchFolder scratch("gguf_type");
  const Json c = config(R"("model_type":"qwen3")");
  const GgufModel model = gguf_model_of_config(c, "c");
  GgufWriter w;
  put_metadata(w, model);
  w.add("token_embd.weight", static_cast<GgmlType>(17), {256, 256}, [](ByteSink sink) {
    const std::vector<std::byte> zeros(256 * 74);
    sink(zeros.data(), zeros.size());
  });
  w.set("qwen3.embedding_length", GgufValue::u32(256));
  w.write(scratch / "b.gguf");
  const std::string what = open_error(scratch / "b.gguf");
  CHECK(what.find("b.gguf: tensor \"token_embd.weight\" is IQ2_XS, which braid does not decode") !=
        what.npos);
}

}  // namespace
}  // namespace braid

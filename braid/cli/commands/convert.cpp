// A model in another form.

#include <algorithm>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/output_path.h"
#include "braid/cli/progress.h"
#include "braid/cli/run_model.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_export.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_model.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/hf_export.h"
#include "braid/importers/model_source.h"
#include "braid/importers/random_weights.h"
#include "braid/stack/weights.h"
#include "braid/train/checkpoint.h"

namespace braid {
namespace {

constexpr const char* kWriting = "writing weights";

struct Flags {
  std::string model, out, to, weights, family, shard_size = "5G", dtype = "bf16";
  std::optional<uint64_t> random;
  const CLI::App* app = nullptr;
  CommonFlags common;
};

GgmlType gguf_type(const std::string& weights) {
  constexpr std::pair<const char*, GgmlType> kNames[] = {
      {"", GgmlType::kF32},      {"f32", GgmlType::kF32},   {"f16", GgmlType::kF16},
      {"bf16", GgmlType::kBF16}, {"q8_0", GgmlType::kQ8_0}, {"q4_0", GgmlType::kQ4_0}};
  for (const auto& [name, type] : kNames) {
    if (weights == name) return type;
  }
  throw Error(
      ErrorKind::kUsage,
      format("--weights is \"{}\"; with --to gguf it is f32, f16, bf16, q8_0 or q4_0", weights));
}

// The dtype of a safetensors file; `fallback` where the flag is not given.
std::string hf_dtype(const char* flag, const std::string& weights, const char* fallback) {
  if (weights.empty()) return fallback;
  if (weights == "f32") return "F32";
  if (weights == "bf16") return "BF16";
  if (weights == "f16") return "F16";
  throw Error(ErrorKind::kUsage,
              format("{} is \"{}\"; with --to hf it is f32, bf16 or f16", flag, weights));
}

const char* torch_name(const std::string& dtype) {
  return dtype == "F32" ? "float32" : dtype == "BF16" ? "bfloat16" : "float16";
}

// The config with what `dtype` says, and without the format the weights had before.
Json config_in(Json config, const std::string& dtype) {
  Json out = Json::object();
  for (const Json::Member& m : config.members()) {
    if (m.key == "quantization_config" || m.key == "torch_dtype" || m.key == "dtype") continue;
    out.set(m.key,
            m.key == "text_config" && m.value.is_object() ? config_in(m.value, dtype) : m.value);
  }
  out.set("torch_dtype", torch_name(dtype));
  return out;
}

void note(const std::vector<std::string>& notes) {
  for (const std::string& n : notes) std::fprintf(stderr, "[%s]\n", n.c_str());
}

// For how many tokens a model was made: what its settings say, or the longer sequences that its run
// trained on; 0 where nobody knows.
int64_t made_for(const ModelSettings& settings, const std::string& model) {
  int64_t tokens = settings.max_position_embeddings;
  if (is_gguf_file(model) || is_hf_folder(model)) return tokens;
  const std::string path = join_path(checkpoint_folder(model), "train/state.json");
  if (!path_exists(path)) return tokens;
  try {
    const Json state = Json::parse(read_file(path, size_t{1} << 24));
    const Json* trained = state.find("seq_len");
    return trained == nullptr ? tokens : std::max(tokens, trained->as_int());
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

// What stands in a model's place in its published family.
struct Published {
  LoadedModel loaded;
  Json config;
  FamilyModel family;
  TensorMap map;
  std::string texts_from;
  std::optional<TokenizerFiles> tokenizer;  // of a GGUF file, which has no texts
};

Published publish(const Context& ctx, const Flags& f, WorkProgress& work) {
  Published p;
  p.loaded = load_any_model(
      ctx, f.model, {.weights = WeightType::kF32, .progress = work.bytes("reading weights")});
  if (is_gguf_file(f.model)) {
    const GgufFile file = GgufFile::open(f.model);
    p.config = gguf_hf_config(file);
    p.tokenizer = gguf_tokenizer_files(file);
  } else if (is_hf_folder(f.model)) {
    p.config = load_config(join_path(f.model, "config.json"));
    p.texts_from = f.model;
  } else {
    ModelSettings settings = p.loaded.model->settings();
    settings.max_position_embeddings = made_for(settings, f.model);
    const HfHome home = find_home(settings, f.family);
    if (settings.max_position_embeddings == 0)
      note({"nobody knows for how many tokens this model was made: config.json says none"});
    if (home.family == find_family("qwen3_next") &&
        p.loaded.model->settings().norm == NormKind::kRms)
      norms_to_one_plus(ctx, p.loaded.model->parameters());
    p.config = home.config;
    put_token_ids(p.loaded.generation, p.config);
    p.texts_from = checkpoint_folder(f.model);
  }
  p.family = read_config(p.config, "config.json").model;
  p.map = export_map(p.family, p.loaded.model->parameters());
  return p;
}

HfExported to_hf(const Context& ctx, const Flags& f, WorkProgress& work) {
  const uint64_t shard = parse_bytes(f.shard_size, "--shard-size");
  if (shard < 1) throw Error(ErrorKind::kUsage, "--shard-size is 0");
  if (f.random) {
    return write_random_checkpoint(ctx, f.model, f.out, hf_dtype("--dtype", f.dtype, "BF16"),
                                   *f.random, shard, work.bytes("making weights"),
                                   work.bytes(kWriting));
  }
  if (is_hf_folder(f.model) && f.weights.empty())
    return copy_hf_folder(f.model, f.out, shard, work.bytes(kWriting));
  const Published p = publish(ctx, f, work);
  const std::string dtype = hf_dtype("--weights", f.weights, "F32");
  return export_hf({p.loaded.model.get(), &p.map, config_in(p.config, dtype),
                    [&](const std::string&) { return dtype; }, p.texts_from, p.tokenizer,
                    generation_config_of(p.loaded.generation), work.bytes(kWriting)},
                   f.out, shard);
}

// config.json and GGUF metadata may say how texts end; neither stands beside the new weights.
void keep_generation_defaults(const GenerationDefaults& defaults, const std::string& folder) {
  const std::string path = join_path(folder, "generation_config.json");
  const Json config = generation_config_of(defaults);
  if (config.size() > 0 && !path_exists(path)) write_file(path, config.dump_pretty());
}

// The texts that belong to a model; a GGUF file's vocabulary becomes files.
void write_texts(const std::string& model, const std::string& folder) {
  if (!is_gguf_file(model)) {
    copy_text_files(is_hf_folder(model) ? model : checkpoint_folder(model), folder);
    return;
  }
  const auto files = gguf_tokenizer_files(GgufFile::open(model));
  if (files) write_tokenizer_files(*files, folder);
}

HfExported to_braid(const Context& ctx, const Flags& f, WorkProgress& work) {
  LoadOptions options;
  options.progress = work.bytes("reading weights");
  if (!f.weights.empty()) {
    options.weights = weight_type_named(f.weights);
    if (!options.weights)
      throw Error(ErrorKind::kUsage,
                  format("--weights is \"{}\"; with --to braid it is f32, bf16, q8, q4 or q4min",
                         f.weights));
  }
  const LoadedModel loaded = load_any_model(ctx, f.model, options);
  const std::string unfinished = f.out + ".unfinished";
  remove_folder(unfinished);
  make_folders(unfinished);
  HfExported out;
  try {
    SafetensorsWriter writer;
    add_weights(writer, loaded.model->parameters());
    out.bytes =
        writer.write(join_path(unfinished, "weights.safetensors"), work.bytes(kWriting)).bytes;
    ModelSettings settings = loaded.model->settings();
    settings.max_position_embeddings = made_for(settings, f.model);
    settings.stack = parse_stack(loaded.model->canonical_stack());
    write_file(join_path(unfinished, "model.toml"), print_settings(settings));
    write_texts(f.model, unfinished);
    keep_generation_defaults(loaded.generation, unfinished);
    replace_folder(unfinished, f.out);
  } catch (const Error&) {
    remove_folder(unfinished);
    throw;
  }
  out.files = {"weights.safetensors"};
  return out;
}

HfExported to_gguf(const Context& ctx, const Flags& f, WorkProgress& work) {
  const GgmlType type = gguf_type(f.weights);
  GgufExported done;
  if (is_gguf_file(f.model) || is_hf_folder(f.model)) {
    done = convert_to_gguf(ctx, f.model, type, f.out, work.bytes(kWriting));
  } else {
    const Published p = publish(ctx, f, work);
    const std::unique_ptr<TensorSource> source = model_source(*p.loaded.model, p.map, f.model);
    done = export_gguf(ctx,
                       {source.get(), p.config, p.texts_from, file_name(f.model), type,
                        work.bytes(kWriting), nullptr, p.loaded.generation},
                       f.out);
  }
  return {done.bytes, {file_name(f.out)}, done.notes};
}

// Nothing that was asked for is left out in silence.
void check_flags(const Flags& f) {
  const auto need = [&](const char* flag, bool applies, const char* why) {
    if (f.app->get_option(flag)->count() > 0 && !applies)
      throw Error(ErrorKind::kUsage, format("{} does nothing here: {}", flag, why));
  };
  const bool trained = !is_gguf_file(f.model) && !is_hf_folder(f.model);
  if (f.random && path_exists(f.model) && has_weights(f.model))
    throw Error(ErrorKind::kUsage,
                format("{} has weights; --random makes them for a folder that holds config.json "
                       "alone",
                       f.model));
  need("--weights", !f.random, "--random takes --dtype");
  need("--dtype", f.random.has_value(), "it is the type of --random's tensors; see --weights");
  need("--shard-size", f.to == "hf", "only --to hf writes shards");
  need("--family", trained && f.to != "braid", "it is for models that braid trained");
}

// GGUF is a file of its own suffix, the others are folders.
std::string format_of(const Flags& f) {
  const bool named_gguf = f.out.ends_with(".gguf");
  if (f.to.empty()) return named_gguf ? "gguf" : "hf";
  if (named_gguf && f.to != "gguf")
    throw Error(ErrorKind::kUsage, format("--to {} writes a folder, but -o {} names a GGUF file; "
                                          "give another name or leave --to out",
                                          f.to, f.out));
  return f.to;
}

// "out/" is "out": what is written stands beside it until it is whole.
void drop_slashes(std::string& folder) {
  while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
}

void require_new_output(const Flags& f) {
  const bool file = f.to == "gguf";
  if (path_exists(f.out))
    throw Error(ErrorKind::kUsage,
                format("{} exists; name a new {} with -o", f.out, file ? "file" : "folder"));
  if (file) {
    require_output_file("-o", f.out);
  } else {
    require_output_folder("-o", f.out);
  }
}

int run(Flags& f) {
  f.to = format_of(f);
  if (f.random && file_name(f.model) == "config.json" && !is_folder(f.model))
    f.model = parent_path(f.model);
  if (f.to != "gguf") drop_slashes(f.out);
  check_flags(f);
  require_new_output(f);
  const Context ctx = f.common.context();
  if (f.random && f.to != "hf")
    throw Error(ErrorKind::kUsage,
                format("--random writes a Hugging Face folder, not --to {}", f.to));
  WorkProgress work;
  const HfExported done = f.to == "hf"      ? to_hf(ctx, f, work)
                          : f.to == "braid" ? to_braid(ctx, f, work)
                                            : to_gguf(ctx, f, work);
  work.finish();
  note(done.notes);
  if (f.common.json) {
    Json files = Json::array();
    for (const std::string& name : done.files) files.push(name);
    const Json line = Json::object({{"out", f.out}, {"bytes", done.bytes}, {"files", files}});
    std::puts(line.dump().c_str());
  } else {
    std::printf("%s: %llu bytes\n", f.out.c_str(), static_cast<unsigned long long>(done.bytes));
  }
  return 0;
}

}  // namespace

std::function<int()> setup_convert(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  f->app = &app;
  app.add_option("-m,--model", f->model,
                 "Hugging Face folder, run or checkpoint folder, or .gguf file")
      ->required();
  app.add_option("-o,--out", f->out, "What to write; must not exist")->required();
  app.add_option("--to", f->to, "hf, braid or gguf (default: gguf where -o ends in .gguf, else hf)")
      ->check(CLI::IsMember({"hf", "braid", "gguf"}));
  app.add_option("--weights", f->weights,
                 "hf: f32, bf16, f16 (default: as stored from a Hugging Face folder, else f32); "
                 "braid: f32, bf16, q8, q4, q4min (as stored); gguf: f32, f16, bf16, q8_0, q4_0 "
                 "(f32)");
  app.add_option("--family", f->family,
                 "Published family of a model that braid trained (default: the nearest)");
  app.add_option("--shard-size", f->shard_size, "Largest file with --to hf")->capture_default_str();
  app.add_option(
      "--random", f->random,
      "Random weights with this seed for a folder that holds config.json alone, as wide as "
      "its initializer_range says");
  app.add_option("--dtype", f->dtype, "Of --random's tensors: bf16, f16 or f32")
      ->capture_default_str();
  f->common.add(app);
  app.footer("Example: braid convert -m FOLDER -o model.gguf --weights q8_0");
  return [f] { return run(*f); };
}

}  // namespace braid

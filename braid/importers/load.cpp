#include "braid/importers/load.h"

#include <algorithm>
#include <array>
#include <set>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_generation.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/model_path.h"
#include "braid/importers/safetensors_source.h"
#include "braid/importers/tensor_prefix.h"
#include "braid/stack/weights.h"

namespace braid {
namespace {

constexpr size_t kListed = 8;

// Other towers and buffers that say nothing.
constexpr const char* kVision[] = {"visual.*",
                                   "model.visual.*",
                                   "vision_tower.*",
                                   "model.vision_tower.*",
                                   "multi_modal_projector.*",
                                   "model.multi_modal_projector.*",
                                   "vision_model.*",
                                   "model.vision_model.*",
                                   "audio_tower.*",
                                   "model.audio_tower.*"};
constexpr const char* kMtp[] = {"mtp.*", "model.mtp.*", "*.mtp.*"};
constexpr const char* kBuffers[] = {"*rotary_emb.inv_freq", "*.attn.bias", "*.attn.masked_bias",
                                    "*.embed_positions.inv_freq"};

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size() && i < kListed; ++i)
    out += (i > 0 ? ", " : "") + printable(names[i], 200);
  return names.size() > kListed ? out + format(" and {} more", names.size() - kListed) : out;
}

std::string saved_folder(const std::string& path) {
  const std::string latest = join_path(path, "latest");
  return path_exists(join_path(latest, "model.toml")) ? latest : path;
}

// The shape that a source of rows [out, in] has for a tensor of the family's [in, out].
std::vector<int64_t> wanted_shape(const TensorMap::Entry& entry, const SourceTensor& t) {
  std::vector<int64_t> shape = entry.shape;
  if (entry.transposed && t.output_major)
    std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  return shape;
}

bool has_embedding(const TensorSource& source, const std::vector<TensorRow>& table,
                   const std::string& prefix) {
  return std::any_of(table.begin(), table.end(), [&](const TensorRow& row) {
    return row.parameter == "embed_tokens.weight" &&
           source.find(prefix + row.tensor.substr(row.tensor.find('}') + 1)) != nullptr;
  });
}

bool has_tensor(const TensorSource& source, const std::string& pattern) {
  return std::any_of(source.tensors().begin(), source.tensors().end(),
                     [&](const SourceTensor& t) { return matches_pattern(t.name, pattern); });
}

// Also settles which of the family's spellings the checkpoint has, of all tensors or of single
// ones.
TensorNames names_in(const TensorSource& source, FamilyModel& model) {
  const std::span<const char* const> prefixes = tensor_prefixes();
  for (const TensorSpelling& spelling : model.spellings) {
    if (std::none_of(prefixes.begin(), prefixes.end(), [&](const char* prefix) {
          return has_embedding(source, spelling.table, prefix);
        }))
      continue;
    model.table = spelling.table;
    model.layers_name = spelling.layers_name;
    model.prefix = spelling.prefix;
    model.skipped = spelling.skipped;
    break;
  }
  TensorNames names;
  names.layers = model.layers_name;
  names.slots = model.slots;
  const auto prefix = std::find_if(prefixes.begin(), prefixes.end(), [&](const char* p) {
    return has_embedding(source, model.table, p);
  });
  if (prefix == prefixes.end()) return names;  // the error will name what is missing
  names.prefix = *prefix;
  if (const char* head = head_prefix_of(source)) names.head = head;
  settle_spellings(model.table, names,
                   [&](const std::string& pattern) { return has_tensor(source, pattern); });
  return names;
}

struct Leftovers {
  struct Kind {
    const char* what;
    size_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::array<Kind, 4> kinds = {{{"multi-token prediction layers"},
                                {"other towers (vision, audio)"},
                                {"buffers"},
                                {"a second copy of the tied head"}}};
  void add(size_t kind, const SourceTensor& t) {
    ++kinds[kind].tensors;
    kinds[kind].bytes += t.bytes;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> out;
    for (const Kind& k : kinds) {
      if (k.tensors > 0)
        out.push_back(format("{}: {} tensors, {} bytes, recognised and not used", k.what, k.tensors,
                             k.bytes));
    }
    return out;
  }
};

bool any_pattern(std::string_view name, std::span<const char* const> patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const char* p) { return matches_pattern(name, p); });
}

// The number of layer that "model.layers.61.enorm.weight" is of, -1 for none.
int64_t layer_of(std::string_view name, const TensorNames& names) {
  const std::string start = names.prefix + names.layers;
  if (!name.starts_with(start)) return -1;
  name.remove_prefix(start.size());
  return parse_int(name.substr(0, name.find('.'))).value_or(-1);
}

// True when the tensor is known and plays no part.
bool recognised(const SourceTensor& t, const FamilyModel& m, const TensorNames& names,
                Leftovers& left) {
  if (any_pattern(t.name, kMtp) || (m.spare_layers && layer_of(t.name, names) >= m.layers)) {
    left.add(0, t);
  } else if (any_pattern(t.name, kVision)) {
    left.add(1, t);
  } else if (any_pattern(t.name, kBuffers) ||
             std::any_of(m.skipped.begin(), m.skipped.end(), [&](const std::string& pattern) {
               return matches_pattern(t.name, pattern);
             })) {
    left.add(2, t);
  } else if (m.settings.tie_embeddings && t.name == names.head + "lm_head.weight") {
    left.add(3, t);
  } else {
    return false;
  }
  return true;
}

void check_tensors(HfCheckpoint& c, const TensorNames& names) {
  std::vector<std::string> missing, left_over, wrong;
  std::set<std::string, std::less<>> wanted;
  for (const TensorMap::Entry& e : c.map.tensors) {
    wanted.insert(e.name);
    const SourceTensor* t = c.source->find(e.name);
    if (t == nullptr) {
      missing.push_back(e.name);
    } else if (const auto want = wanted_shape(e, *t); squeezed(t->shape) != squeezed(want)) {
      wrong.push_back(format("{} is {} in the file, {} by config.json", e.name,
                             shape_text(t->shape), shape_text(want)));
    } else if (t->plain.empty() && t->bytes == static_cast<uint64_t>(t->count()) * 8) {
      wrong.push_back(format("{} is {}", e.name, t->stored));
    }
  }
  Leftovers leftovers;
  for (const SourceTensor& t : c.source->tensors()) {
    if (wanted.contains(t.name) || recognised(t, c.config.model, names, leftovers)) continue;
    left_over.push_back(t.name);
  }
  std::string what;
  if (!missing.empty()) what += "; missing: " + listed(missing);
  if (!left_over.empty()) what += "; not of this model: " + listed(left_over);
  if (!wrong.empty()) what += "; other shape: " + listed(wrong);
  if (!what.empty()) {
    throw Error(ErrorKind::kBadInput,
                format("{} as {}{}", c.source->path(), c.config.family->name, what));
  }
  for (std::string& note : leftovers.notes()) c.notes.push_back(std::move(note));
}

Context dry_context() {
  Context ctx;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  return ctx;
}

// What a layer or a setting refuses comes from the folder, not from the command line.
ModelSettings saved_settings(const std::string& folder) {
  try {
    return load_settings(folder);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    throw Error(ErrorKind::kBadInput, e.what());
  }
}

Model model_of(const Context& ctx, const ModelSettings& settings, const std::string& path) {
  try {
    return Model(ctx, settings, Model::Fill::kDeferred);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    throw Error(ErrorKind::kBadInput, format("{}: {}", path, e.what()));
  }
}

}  // namespace

bool is_hf_folder(const std::string& path) {
  return is_folder(path) && path_exists(join_path(path, "config.json")) &&
         !path_exists(join_path(saved_folder(path), "model.toml"));
}

bool has_weights(const std::string& path) {
  if (is_hf_folder(path)) return has_safetensors(path);
  if (is_gguf_file(path)) return true;
  return path_exists(join_path(saved_folder(path), "weights.safetensors"));
}

ModelSettings load_settings(const std::string& path) {
  if (is_hf_folder(path) || path.ends_with(".json")) {
    const std::string file = is_folder(path) ? join_path(path, "config.json") : path;
    return read_config(load_config(file), file).model.settings;
  }
  const bool toml = path.ends_with(".toml");
  if (!toml) require_model(path);
  if (is_gguf_file(path)) return open_gguf_checkpoint(path).config.model.settings;
  const std::string file = toml ? path : join_path(saved_folder(path), "model.toml");
  return parse_settings(read_file(file, size_t{1} << 20), file);
}

void fit_tensors(HfCheckpoint& c) {
  FamilyModel& m = c.config.model;
  const TensorNames names = names_in(*c.source, m);
  if (!m.tie_given) {
    m.settings.tie_embeddings = c.source->find(names.head + "lm_head.weight") == nullptr;
  }
  const Context dry = dry_context();
  const Model shapes = model_of(dry, c.config.model.settings, c.source->path());
  c.map = map_tensors(m.table, shapes.parameters(), names);
  check_tensors(c, names);
}

HfCheckpoint open_hf_checkpoint(const std::string& folder) {
  HfCheckpoint c;
  const std::string file = join_path(folder, "config.json");
  c.config = read_config(load_config(file), file);
  c.notes = c.config.model.notes;
  c.source = open_safetensors_source(folder, c.config.fp8_block);
  fit_tensors(c);
  return c;
}

namespace {

// The folder's own, or bytes where the vocabulary can only be bytes. Special tokens beyond the
// model's rows (Gemma 3 1B has one, for images) are noted: only a text that spells them is an
// error.
std::shared_ptr<const Tokenizer> tokenizer_of(std::shared_ptr<const Tokenizer> own,
                                              const std::string& folder, const Model& model,
                                              std::vector<std::string>& notes) {
  const int64_t vocab = model.settings().vocab;
  if (own == nullptr && vocab == 256) return byte_tokenizer();
  if (own == nullptr || own->vocab_size() <= vocab) return own;
  for (auto id = static_cast<int32_t>(vocab); id < own->vocab_size(); ++id) {
    if (own->is_special(id) || !own->id_to_token(id).has_value()) continue;
    throw Error(ErrorKind::kBadInput,
                format("{}: the tokenizer has {} tokens, the model's vocabulary {}", folder,
                       own->vocab_size(), vocab));
  }
  notes.push_back(
      format("special tokens {} to {} have no row in the model", vocab, own->vocab_size() - 1));
  return own;
}

// A checkpoint opened, with all that is asked before its weights are read.
struct Opened {
  LoadedModel loaded;
  std::optional<SafetensorsFile> own;  // braid's weights, or
  std::optional<HfCheckpoint> hf;
};

Opened open_own(const Context& ctx, const std::string& folder) {
  Opened o;
  o.own = SafetensorsFile::open(join_path(folder, "weights.safetensors"));
  o.loaded.model = std::make_unique<Model>(model_of(ctx, saved_settings(folder), folder));
  o.loaded.generation = read_generation_defaults(folder);
  o.loaded.tokenizer =
      tokenizer_of(load_tokenizer(folder), folder, *o.loaded.model, o.loaded.notes);
  return o;
}

Opened open_any(const Context& ctx, const std::string& path) {
  require_model(path);
  std::shared_ptr<const GgufFile> gguf;
  if (is_gguf_file(path)) gguf = std::make_shared<const GgufFile>(GgufFile::open(path));
  if (!gguf && !is_hf_folder(path)) return open_own(ctx, saved_folder(path));
  Opened o;
  LoadedModel& out = o.loaded;
  o.hf = gguf ? open_gguf_checkpoint(gguf) : open_hf_checkpoint(path);
  out.model = std::make_unique<Model>(model_of(ctx, o.hf->config.model.settings, path));
  out.notes = std::move(o.hf->notes);
  out.family = o.hf->config.family->name;
  out.generation = gguf ? gguf_generation_defaults(*gguf) : read_generation_defaults(path);
  out.tokenizer = tokenizer_of(gguf ? gguf_tokenizer(*gguf) : load_tokenizer(path), path,
                               *out.model, out.notes);
  return o;
}

}  // namespace

LoadedModel load_model(const Context& ctx, const std::string& path, const LoadOptions& options) {
  Opened o = open_any(ctx, path);
  LoadedModel& out = o.loaded;
  const auto before = [&](std::span<const WeightType> types) {
    if (options.before_fill) options.before_fill(out, types);
  };
  ParameterSet& parameters = out.model->parameters();
  if (o.own) {
    fill_weights(ctx, *o.own, parameters,
                 {options.weights, options.writable, before, options.progress});
    return std::move(out);
  }
  const FillOptions fill{options.weights, options.writable, before, options.progress};
  for (std::string& note : fill_parameters(ctx, *o.hf->source, o.hf->map, parameters, fill))
    out.notes.push_back(std::move(note));
  return std::move(out);
}

std::vector<WeightType> loaded_types(const std::string& path, const LoadOptions& options) {
  const Context ctx = dry_context();
  Opened o = open_any(ctx, path);
  if (o.own)
    return fill_types(*o.own, o.loaded.model->parameters(), {options.weights, options.writable});
  std::vector<WeightType> types;
  auto use = o.hf->map.parameters.begin();
  for (const Parameter& p : o.loaded.model->parameters())
    types.push_back(
        fill_type(*o.hf->source, o.hf->map, *use++, p, {options.weights, options.writable}));
  return types;
}

}  // namespace braid

#include "braid/importers/gguf_model.h"

#include <algorithm>
#include <charconv>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/importers/architectures.h"
#include "braid/importers/gguf_architecture.h"

namespace braid {

#define BRAID_GGUF(name) GgufArchitecture gguf_##name();
#include "braid/importers/gguf/list.inc"
#undef BRAID_GGUF

std::span<const GgufArchitecture> gguf_architectures() {
  static const std::vector<GgufArchitecture> all = {
#define BRAID_GGUF(name) gguf_##name(),
#include "braid/importers/gguf/list.inc"
#undef BRAID_GGUF
  };
  return all;
}

namespace {

const GgufArchitecture* find_architecture(std::string_view name) {
  for (const GgufArchitecture& a : gguf_architectures()) {
    if (name == a.name) return &a;
  }
  return nullptr;
}

}  // namespace

const GgufArchitecture& gguf_architecture(std::string_view name) {
  const GgufArchitecture* a = find_architecture(name);
  BRAID_CHECK(a != nullptr);
  return *a;
}

double shortest_f32(double value) {
  const float narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value) return value;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, narrow);
  double out = value;
  std::from_chars(text, end.ptr, out);
  return out;
}

GgufModel gguf_model_of(const GgufFile& file) {
  GgufModel m;
  m.arch = file.string("general.architecture").value_or("");
  const GgufKeys k(file, m.arch);
  const GgufArchitecture* a = find_architecture(m.arch);
  if (a == nullptr) {
    std::string known;
    for (const GgufArchitecture& other : gguf_architectures())
      known += (known.empty() ? "" : ", ") + std::string(other.name);
    k.fail(format("general.architecture is \"{}\"; known: {}", m.arch.substr(0, 60), known));
  }
  GgufExchange x(k);
  a->settings(x, m);
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    k.fail("there is no matrix token_embd.weight");
  m.vocab = embedding->shape[0];
  m.tied = !k.has_tensor("output.weight");
  if (const int64_t experts = k.integer("expert_count", 0); experts > 0 && m.experts == 0)
    k.fail(format("{} with {} experts has no form here", m.arch, experts));
  return m;
}

Json hf_config_of(const GgufModel& model) {
  const GgufArchitecture& a = gguf_architecture(model.arch);
  Json c = Json::object();
  c.set("architectures", Json::array({architecture_of(a.model_types[0])}));
  c.set("model_type", a.model_types[0]);
  c.set("vocab_size", model.vocab);
  c.set("tie_word_embeddings", model.tied);
  GgufExchange x(c);
  GgufModel m = model;
  a.settings(x, m);
  return c;
}

GgufModel gguf_model_of_config(const Json& root, const std::string& source) {
  const GgufConfig c(root, source);
  const std::string type = c.text("model_type", "");
  const GgufArchitecture* a = nullptr;
  std::string known;
  for (const GgufArchitecture& other : gguf_architectures()) {
    for (const char* t : other.model_types) {
      if (type == t || type == std::string(t) + "_text") a = &other;
      known += (known.empty() ? "" : ", ") + std::string(t);
    }
  }
  if (a == nullptr)
    c.fail(format("model_type \"{}\" has no GGUF form here; these have: {}", type, known));
  GgufModel m;
  m.arch = a->name;
  m.vocab = c.integer("vocab_size");
  m.tied = c.truth("tie_word_embeddings", a->always_tied);
  if (a->always_tied && !m.tied) c.fail(format("{} with a head of its own", type));
  GgufExchange x(c);
  a->settings(x, m);
  return m;
}

void put_metadata(GgufWriter& writer, const GgufModel& model) {
  writer.set("general.architecture", GgufValue::string(model.arch));
  GgufExchange x(writer, model.arch);
  GgufModel m = model;
  gguf_architecture(model.arch).settings(x, m);
}

std::vector<GgufLink> gguf_links(const GgufModel& model) {
  GgufLinkList links(model);
  gguf_architecture(model.arch).tensors(links);
  return links.take();
}

}  // namespace braid

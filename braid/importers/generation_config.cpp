#include "braid/importers/generation_config.h"

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/importers/config_reader.h"

namespace braid {
namespace {

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {
    if (!path_exists(path)) return;
    json_ = load_config(path);
    if (!json_.is_object()) fail("is not an object");
  }

  // Folders of the first Llama write -1 for "none", which `none_is_negative` allows.
  std::vector<int32_t> ids(const char* key, bool none_is_negative = false) const {
    std::vector<int32_t> out;
    const Json* v = find(key);
    if (v == nullptr) return out;
    const auto add = [&](const Json& id) {
      if (none_is_negative && id.kind() == Json::Kind::kInt && id.as_int() < 0) return;
      if (id.kind() != Json::Kind::kInt || id.as_int() < 0 || id.as_int() > INT32_MAX)
        fail(format("{} is {}, not a token", key, printable(v->dump())));
      out.push_back(static_cast<int32_t>(id.as_int()));
    };
    if (!v->is_array()) {
      add(*v);
    } else {
      for (const Json& id : v->elements()) add(id);
    }
    return out;
  }
  std::optional<double> real(const char* key, double least, double most) const {
    const Json* v = find(key);
    if (v == nullptr) return std::nullopt;
    if (!v->is_number()) fail(format("{} is {}, not a number", key, printable(v->dump())));
    const double value = v->as_real();
    if (!(value >= least && value <= most))
      fail(format("{} is {}, not between {} and {}", key, value, least, most));
    return value;
  }
  bool says_no(const char* key) const {
    const Json* v = find(key);
    return v != nullptr && v->kind() == Json::Kind::kBool && !v->as_bool();
  }

 private:
  const Json* find(const char* key) const {
    const Json* v = json_.is_object() ? json_.find(key) : nullptr;
    return v == nullptr || v->is_null() ? nullptr : v;
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::kBadInput, format("{}: {}", path_, what));
  }
  std::string path_;
  Json json_;
};

}  // namespace

GenerationDefaults read_generation_defaults(const std::string& folder) {
  const Reader generation(join_path(folder, "generation_config.json"));
  const Reader config(join_path(folder, "config.json"));
  GenerationDefaults out;
  out.eos = generation.ids("eos_token_id");
  if (out.eos.empty()) out.eos = config.ids("eos_token_id");
  const auto first = [&](const char* key) -> std::optional<int32_t> {
    std::vector<int32_t> ids = generation.ids(key, true);
    if (ids.empty()) ids = config.ids(key, true);
    return ids.empty() ? std::nullopt : std::optional(ids.front());
  };
  out.bos = first("bos_token_id");
  out.pad = first("pad_token_id");
  out.temperature = generation.real("temperature", 0, 1e3);
  out.top_p = generation.real("top_p", 1e-6, 1);
  out.min_p = generation.real("min_p", 0, 1);
  out.repetition_penalty = generation.real("repetition_penalty", 1e-3, 1e3);
  if (const auto k = generation.real("top_k", 0, 1e9)) out.top_k = static_cast<int64_t>(*k);
  if (generation.says_no("do_sample")) out.temperature = 0;
  return out;
}

void put_token_ids(const GenerationDefaults& d, Json& config) {
  if (d.bos) config.set("bos_token_id", *d.bos);
  if (d.eos.size() == 1) config.set("eos_token_id", d.eos[0]);
  if (d.eos.size() > 1) {
    Json list = Json::array();
    for (const int32_t id : d.eos) list.push(id);
    config.set("eos_token_id", std::move(list));
  }
  if (d.pad) config.set("pad_token_id", *d.pad);
}

Json generation_config_of(const GenerationDefaults& d) {
  Json out = Json::object();
  put_token_ids(d, out);
  const bool greedy = d.temperature == 0;
  if (greedy)
    out.set("do_sample", false);
  else if (d.temperature || d.top_p || d.min_p || d.top_k)
    out.set("do_sample", true);
  if (d.temperature && !greedy) out.set("temperature", *d.temperature);
  if (d.top_k) out.set("top_k", *d.top_k);
  if (d.top_p) out.set("top_p", *d.top_p);
  if (d.min_p) out.set("min_p", *d.min_p);
  if (d.repetition_penalty) out.set("repetition_penalty", *d.repetition_penalty);
  return out;
}

}  // namespace braid

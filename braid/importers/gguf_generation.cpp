#include "braid/importers/gguf_generation.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/importers/gguf_model.h"

namespace braid {
namespace {

constexpr const char* kBos = "tokenizer.ggml.bos_token_id";
constexpr const char* kPad = "tokenizer.ggml.padding_token_id";
constexpr const char* kEnds[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                 "tokenizer.ggml.eom_token_id"};
constexpr const char* kAllEnds = "tokenizer.ggml.eos_token_ids";
constexpr int64_t kMostId = int64_t{1} << 30;

struct SamplingKey {
  const char* key;
  std::optional<double> GenerationDefaults::*value;
};
constexpr SamplingKey kSampling[] = {
    {"general.sampling.temp", &GenerationDefaults::temperature},
    {"general.sampling.top_p", &GenerationDefaults::top_p},
    {"general.sampling.min_p", &GenerationDefaults::min_p},
    {"general.sampling.penalty_repeat", &GenerationDefaults::repetition_penalty}};
constexpr const char* kTopK = "general.sampling.top_k";

void read_ends(const GgufFile& file, GenerationDefaults& out) {
  const auto add = [&](int64_t id) {
    const auto n = static_cast<int32_t>(id);
    if (id >= 0 && id <= kMostId && std::find(out.eos.begin(), out.eos.end(), n) == out.eos.end())
      out.eos.push_back(n);
  };
  if (const GgufValue* all = file.find(kAllEnds); all != nullptr) {
    if (all->kind() != GgufKind::kArray)
      throw Error(ErrorKind::kBadInput, format("{}: key \"{}\" is {}, not an array", file.path(),
                                               kAllEnds, all->describe()));
    for (size_t i = 0; i < all->size(); ++i) add(all->int_at(i));
  }
  for (const char* key : kEnds) {
    if (const auto n = file.uint(key))
      add(static_cast<int64_t>(std::min<uint64_t>(*n, UINT32_MAX)));
  }
}

}  // namespace

GenerationDefaults gguf_generation_defaults(const GgufFile& file) {
  GenerationDefaults out;
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    const std::optional<uint64_t> n = file.uint(key);
    if (!n || *n > static_cast<uint64_t>(kMostId)) return std::nullopt;
    return static_cast<int32_t>(*n);
  };
  out.bos = id(kBos);
  out.pad = id(kPad);
  read_ends(file, out);
  for (const SamplingKey& s : kSampling) {
    const std::optional<double> v = file.real(s.key);
    if (v && std::isfinite(*v)) out.*(s.value) = shortest_f32(*v);
  }
  if (file.find(kTopK) != nullptr) {
    // A negative one is llama.cpp's "off".
    if (const double k = file.real(kTopK).value_or(0); k >= 0 && k <= 1e9)
      out.top_k = static_cast<int64_t>(k);
  }
  return out;
}

void put_generation_defaults(GgufWriter& w, const GenerationDefaults& d) {
  const auto put_id = [&](const char* key, std::optional<int32_t> id) {
    if (id && w.find(key) == nullptr) w.set(key, GgufValue::u32(static_cast<uint32_t>(*id)));
  };
  put_id(kBos, d.bos);
  put_id(kPad, d.pad);
  // What the tokenizer calls its end goes first.
  std::vector<int32_t> ends = d.eos;
  if (const GgufValue* own = w.find(kEnds[0])) {
    const auto id = static_cast<int32_t>(own->as_uint());
    std::erase(ends, id);
    ends.insert(ends.begin(), id);
  }
  for (size_t i = 0; i < ends.size() && i < std::size(kEnds); ++i) put_id(kEnds[i], ends[i]);
  if (ends.size() > 1) w.set(kAllEnds, GgufValue::i32s(ends));
  for (const SamplingKey& s : kSampling) {
    if (d.*(s.value)) w.set(s.key, GgufValue::f32(static_cast<float>(*(d.*(s.value)))));
  }
  if (d.top_k) w.set(kTopK, GgufValue::i32(static_cast<int32_t>(*d.top_k)));
}

}  // namespace braid

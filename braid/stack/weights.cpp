#include "braid/stack/weights.h"

#include <cstring>
#include <set>

#include "braid/base/format.h"

namespace braid {
namespace {

constexpr size_t kListed = 8;

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < names.size() && i < kListed; ++i) out += (i > 0 ? ", " : "") + names[i];
  return names.size() > kListed ? out + format(" and {} more", names.size() - kListed) : out;
}

void check_names(const SafetensorsFile& file, const ParameterSet& parameters) {
  std::vector<std::string> missing, left, wrong;
  std::set<std::string, std::less<>> known;
  for (const Parameter& p : parameters) {
    known.insert(p.name);
    const SafetensorsEntry* e = file.find(p.name);
    if (e == nullptr) {
      missing.push_back(p.name);
    } else if (Shape have(e->shape); have.count() != p.value.count() ||
                                     have.rank() != p.value.rank() || !(have == p.value.shape())) {
      wrong.push_back(format("{} is {} in the file, {} in the model", p.name, have.str(),
                             p.value.shape().str()));
    }
  }
  for (const SafetensorsEntry& e : file.entries()) {
    if (!known.contains(e.name)) left.push_back(e.name);
  }
  std::string what;
  if (!missing.empty()) what += "; missing: " + listed(missing);
  if (!left.empty()) what += "; not of this model: " + listed(left);
  if (!wrong.empty()) what += "; other shape: " + listed(wrong);
  if (!what.empty()) throw Error(ErrorKind::kBadInput, file.path() + what);
}

}  // namespace

void add_weights(SafetensorsWriter& out, const ParameterSet& parameters) {
  for (const Parameter& p : parameters) out.add(p.name, p.value);
}

void load_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters) {
  check_names(file, parameters);
  for (Parameter& p : parameters) {
    const Tensor value = file.to_f32(ctx, p.name);
    if (!ctx.dry()) std::memcpy(p.value.data(), value.data(), p.value.bytes());
  }
}

}  // namespace braid

#include "braid/stack/weights.h"

#include <algorithm>
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

constexpr const char* kPackedKey = "braid.weight.";

bool packed_in(const SafetensorsFile& file, const std::string& name) {
  return file.metadata().contains(kPackedKey + name);
}

[[noreturn]] void wrong_weight(const SafetensorsFile& file, const std::string& name,
                               const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}: {}", file.path(), name, what));
}

// The type of "q8 [4096, 1024]"; the rest must be `shape`.
WeightType packed_type(const SafetensorsFile& file, const std::string& name, const Shape& shape) {
  const std::string& text = file.metadata(kPackedKey + name);
  const size_t space = std::min(text.find(' '), text.size());
  const std::optional<WeightType> type = weight_type_named(text.substr(0, space));
  if (!type || !is_quantised(*type)) {
    wrong_weight(file, name, format("is kept as \"{}\", which is no quantised type", text));
  }
  if (text.substr(space) != format(" {}", shape.str())) {
    wrong_weight(file, name, format("is kept as \"{}\", the model has {}", text, shape.str()));
  }
  if ((shape.rank() != 2 && shape.rank() != 3) || shape[-1] % weight_block(*type) != 0) {
    wrong_weight(file, name,
                 format("cannot be \"{}\": rows of {} are no whole blocks of {}", text, shape[-1],
                        weight_block(*type)));
  }
  return *type;
}

// As it stands in the file, which may have more dimensions than a shape can.
Shape shape_in(const SafetensorsFile& file, const SafetensorsEntry& e) {
  if (e.shape.size() > Shape::kMaxRank) {
    wrong_weight(
        file, e.name,
        format("has {} dimensions; at most {} are supported", e.shape.size(), Shape::kMaxRank));
  }
  return Shape(e.shape);
}

void check_names(const SafetensorsFile& file, const ParameterSet& parameters) {
  std::vector<std::string> missing, left, wrong;
  std::set<std::string, std::less<>> known;
  for (const Parameter& p : parameters) {
    known.insert(p.name);
    const SafetensorsEntry* e = file.find(p.name);
    if (e == nullptr) {
      missing.push_back(p.name);
    } else if (packed_in(file, p.name)) {
      weight_from_file(file, p.name, p.value.shape());  // throws what is wrong with it
    } else if (Shape have = shape_in(file, *e); have.count() != p.value.count() ||
                                                have.rank() != p.value.rank() ||
                                                !(have == p.value.shape())) {
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

void add_weight(SafetensorsWriter& out, const Parameter& p) {
  if (!p.weight) return out.add(p.name, p.value);
  if (!is_quantised(p.weight->type())) {
    // The bytes, seen as the numbers they are.
    const bool wide = p.weight->type() == WeightType::kF32;
    const Tensor& bytes = p.weight->bytes();
    const std::span<const std::byte> data(bytes.data<std::byte>(), bytes.bytes());
    auto owner = std::make_shared<Tensor>(bytes);
    return out.add(p.name, Tensor::wrap(std::make_shared<Storage>(data.data(), data.size(), owner),
                                        0, p.weight->shape(), wide ? DType::kF32 : DType::kBF16));
  }
  out.add(p.name, p.weight->bytes());
  out.set_metadata(kPackedKey + p.name,
                   format("{} {}", weight_type_name(p.weight->type()), p.weight->shape().str()));
}

void add_weights(SafetensorsWriter& out, const ParameterSet& parameters) {
  for (const Parameter& p : parameters) add_weight(out, p);
}

std::shared_ptr<const Weight> weight_from_file(const SafetensorsFile& file, const std::string& name,
                                               const Shape& shape) {
  const SafetensorsEntry* entry = file.find(name);
  if (entry == nullptr) wrong_weight(file, name, "is missing");
  const bool packed = packed_in(file, name);
  if (!packed && entry->dtype != "BF16") return nullptr;
  const WeightType type = packed ? packed_type(file, name, shape) : WeightType::kBF16;
  const int64_t bytes = weight_bytes(type, shape);
  const std::span<const std::byte> data = file.bytes(*entry);
  if (packed && (entry->dtype != "U8" || entry->shape.size() != 1)) {
    wrong_weight(
        file, name,
        format("is {} {}, expected U8 [{}]", entry->dtype, shape_in(file, *entry).str(), bytes));
  }
  if (std::ssize(data) != bytes || (!packed && !(shape_in(file, *entry) == shape))) {
    wrong_weight(file, name,
                 format("{} bytes, expected {} for {} {}", data.size(), bytes,
                        weight_type_name(type), shape.str()));
  }
  const Tensor view = file.tensor(name);
  auto owner = std::make_shared<Tensor>(view);
  return std::make_shared<Weight>(
      type, shape,
      Tensor::wrap(std::make_shared<Storage>(view.data<std::byte>(), data.size(), owner), 0,
                   {bytes}, DType::kU8));
}

void load_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters) {
  check_names(file, parameters);
  for (Parameter& p : parameters) {
    if (packed_in(file, p.name)) {
      set_weight(p, weight_from_file(file, p.name, p.value.shape()));
      continue;
    }
    const Tensor value = file.to_f32(ctx, p.name);
    if (!ctx.dry()) std::memcpy(p.value.data(), value.data(), p.value.bytes());
    file.release(p.name);
  }
}

namespace {

// The weight the file holds in a type that is not f32, or null.
std::shared_ptr<const Weight> stored_weight(const SafetensorsFile& file, const Parameter& p) {
  const bool half = file.find(p.name)->dtype == "BF16" &&
                    weight_type_for(p, WeightType::kBF16) == WeightType::kBF16;
  if (!half && !packed_in(file, p.name)) return nullptr;
  return weight_from_file(file, p.name, p.value.shape());
}

WeightType wanted_type(const SafetensorsFile& file, const Parameter& p, const FillWeights& o) {
  const std::shared_ptr<const Weight> weight = stored_weight(file, p);
  const WeightType stored = weight ? weight->type() : WeightType::kF32;
  const WeightType want = o.writable  ? WeightType::kF32
                          : o.weights ? weight_type_for(p, *o.weights)
                                      : stored;
  if (is_quantised(stored) && want != stored && is_quantised(want)) {
    throw Error(
        ErrorKind::kUsage,
        format("{} holds {} as {}; it is not quantised again as {}: convert from the original",
               file.path(), p.name, weight_type_name(stored), weight_type_name(want)));
  }
  return want;
}

// A view of the mapped file, counted as what it is: memory of this model.
Tensor counted(const Context& ctx, const Tensor& view) {
  return Tensor::wrap(
      ctx.arena->adopt(view.data<std::byte>(), view.bytes(), std::make_shared<Tensor>(view)), 0,
      view.shape(), view.dtype());
}

// In the type wanted, from whatever stands in the file.
void fill_weight(const Context& ctx, const SafetensorsFile& file, Parameter& p, WeightType want,
                 bool writable) {
  if (const std::shared_ptr<const Weight> weight = stored_weight(file, p)) {
    if (weight->type() == want) {
      return set_weight(
          p, std::make_shared<Weight>(want, weight->shape(), counted(ctx, weight->bytes())));
    }
    set_weight(p, weight);
  } else {
    const bool view = !writable && file.find(p.name)->dtype == "F32";
    set_f32(p, view ? counted(ctx, file.tensor(p.name)) : file.to_f32(ctx, p.name));
    if (want == WeightType::kF32) return;
  }
  const Tensor value = dense_value(ctx, p);
  p.weight = nullptr;
  if (want == WeightType::kF32) return set_f32(p, value);
  const int64_t columns = value.size(-1);
  set_weight(p, pack_weight(ctx, want, value.shape(), [&](int64_t row, float* to) {
               std::memcpy(to, value.data() + row * columns,
                           static_cast<size_t>(columns) * sizeof(float));
             }));
}

}  // namespace

std::vector<WeightType> fill_types(const SafetensorsFile& file, const ParameterSet& parameters,
                                   const FillWeights& options) {
  check_names(file, parameters);
  std::vector<WeightType> types;
  for (const Parameter& p : parameters) types.push_back(wanted_type(file, p, options));
  return types;
}

FillProgress::FillProgress(const ParameterSet& parameters, std::span<const WeightType> types,
                           const ByteProgress& progress)
    : progress_(progress) {
  auto type = types.begin();
  for (const Parameter& p : parameters) all_ += bytes_as(p, *type++);
}

void FillProgress::filled(const Parameter& p, WeightType type) {
  done_ += bytes_as(p, type);
  if (progress_) progress_(done_, all_);
}

void fill_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters,
                  const FillWeights& options) {
  const std::vector<WeightType> types = fill_types(file, parameters, options);
  if (options.before) options.before(types);
  FillProgress progress(parameters, types, options.progress);
  auto type = types.begin();
  for (Parameter& p : parameters) {
    fill_weight(ctx, file, p, *type, options.writable);
    file.release(p.name);
    progress.filled(p, *type++);
  }
  ctx.arena->mark_weights();
}

}  // namespace braid

#include "braid/state/sequence_state.h"

#include <algorithm>

#include "braid/base/format.h"

namespace braid {
namespace {

std::string layer_prefix(size_t index) { return format("layers.{}.", index); }

}  // namespace

size_t SequenceState::bytes() const {
  size_t n = tokens.size() * sizeof(int32_t) + (logits.defined() ? logits.bytes() : 0);
  for (const auto& l : layers) n += l ? l->bytes() : 0;
  return n;
}

SequenceState SequenceState::snapshot() const {
  SequenceState copy;
  for (const auto& l : layers) copy.layers.push_back(l ? l->snapshot() : nullptr);
  copy.tokens = tokens;
  copy.logits = logits;  // never written in place
  copy.seed = seed;
  copy.draws = draws;
  return copy;
}

void SequenceState::restore(const SequenceState& other) {
  BRAID_CHECK(layers.size() == other.layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    BRAID_CHECK((layers[i] == nullptr) == (other.layers[i] == nullptr));
    if (layers[i]) layers[i]->restore(*other.layers[i]);
  }
  tokens = other.tokens;
  logits = other.logits;
  seed = other.seed;
  draws = other.draws;
}

void SequenceState::save(StateWriter& out) const {
  out.integer("layers", static_cast<int64_t>(layers.size()));
  out.integer("tokens.count", static_cast<int64_t>(tokens.size()));
  out.integer("seed", static_cast<int64_t>(seed));
  out.integer("draws", static_cast<int64_t>(draws));
  Context ctx;
  Tensor ids = Tensor::empty(ctx, {static_cast<int64_t>(tokens.size())}, DType::kI32);
  std::copy(tokens.begin(), tokens.end(), ids.data<int32_t>());
  out.tensor("tokens", ids);
  out.integer("logits.count", logits.defined() ? logits.count() : 0);
  if (logits.defined()) out.tensor("logits", logits);
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i]) layers[i]->save(out, layer_prefix(i));
  }
}

void SequenceState::load(StateReader& in) {
  const int64_t count = in.integer("layers");
  if (count != static_cast<int64_t>(layers.size())) {
    throw Error(ErrorKind::kBadInput,
                format("the state is of a model with {} sub-layers, this one has {}", count,
                       layers.size()));
  }
  const auto count_of = [&](const char* name) {
    const int64_t n = in.integer(name);
    if (n < 0) throw Error(ErrorKind::kBadInput, format("the state's {} is {}", name, n));
    return n;
  };
  const Tensor ids = in.tensor("tokens", {count_of("tokens.count")}, DType::kI32);
  tokens.assign(ids.data<int32_t>(), ids.data<int32_t>() + ids.count());
  seed = static_cast<uint64_t>(in.integer("seed"));
  draws = static_cast<uint64_t>(in.integer("draws"));
  const int64_t vocab = count_of("logits.count");
  logits = vocab > 0 ? in.tensor("logits", {vocab}) : Tensor();
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i]) layers[i]->load(in, layer_prefix(i));
  }
  const LayerState* first = nullptr;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i]) continue;
    if (first == nullptr) first = layers[i].get();
    if (layers[i]->length() == first->length()) continue;
    throw Error(ErrorKind::kBadInput, format("the state of sub-layer {} is of {} tokens, that of "
                                             "the first of {}",
                                             i, layers[i]->length(), first->length()));
  }
}

}  // namespace braid

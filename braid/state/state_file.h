#pragma once
// Sequence states in a file: safetensors whose metadata holds the numbers and a digest of all
// content.

#include <map>
#include <string>

#include "braid/formats/safetensors.h"
#include "braid/state/layer_state.h"

namespace braid {

class StateFileWriter final : public StateWriter {
 public:
  void tensor(std::string_view name, const Tensor& value) override;
  void integer(std::string_view name, int64_t value) override;
  void text(const std::string& key, std::string value);  // free facts: the model's stack
  void write(const std::string& path);                   // atomic

 private:
  SafetensorsWriter out_;
};

class StateFileReader final : public StateReader {
 public:
  // Throws Error(kBadInput) for a file that is no state, of another version, or damaged.
  StateFileReader(const Context& ctx, const std::string& path);
  Tensor tensor(std::string_view name, Shape shape, DType dtype) override;
  int64_t integer(std::string_view name) override;
  std::string text(const std::string& key) const;
  bool has_text(const std::string& key) const;

 private:
  const Context& ctx_;
  SafetensorsFile file_;
};

}  // namespace braid

#pragma once

#include <memory>
#include <vector>

#include "braid/state/layer_state.h"

namespace braid {

// Several states of one layer as one: a recurrent matrix with its convolution windows, the branches
// of parallel heads. All members advance together; length() is the first one's.
class GroupState final : public LayerState {
 public:
  explicit GroupState(std::vector<std::unique_ptr<LayerState>> members);  // at least one, none null
  LayerState& member(size_t i) { return *members_[i]; }
  size_t size() const { return members_.size(); }

  std::string_view kind() const override { return "group"; }
  int64_t length() const override;
  bool has_seen(int64_t tokens) const override;
  size_t bytes() const override;
  std::unique_ptr<LayerState> snapshot() const override;
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  // Throws Error(kBadInput) for members that have not seen as much as the first.
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 private:
  std::vector<std::unique_ptr<LayerState>> members_;
};

}  // namespace braid

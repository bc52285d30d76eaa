#include "braid/state/group_state.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

std::string member_prefix(std::string_view prefix, size_t i) { return format("{}{}.", prefix, i); }

}  // namespace

GroupState::GroupState(std::vector<std::unique_ptr<LayerState>> members)
    : members_(std::move(members)) {
  BRAID_CHECK(!members_.empty());
  for (const auto& m : members_) BRAID_CHECK(m != nullptr);
}

int64_t GroupState::length() const { return members_.front()->length(); }

bool GroupState::has_seen(int64_t tokens) const {
  return std::ranges::all_of(members_, [&](const auto& m) { return m->has_seen(tokens); });
}

size_t GroupState::bytes() const {
  size_t n = 0;
  for (const auto& m : members_) n += m->bytes();
  return n;
}

std::unique_ptr<LayerState> GroupState::snapshot() const {
  std::vector<std::unique_ptr<LayerState>> copies;
  for (const auto& m : members_) copies.push_back(m->snapshot());
  return std::make_unique<GroupState>(std::move(copies));
}

void GroupState::restore(const LayerState& other) {
  const auto* group = dynamic_cast<const GroupState*>(&other);
  BRAID_CHECK(group != nullptr && group->size() == size());
  for (size_t i = 0; i < members_.size(); ++i) members_[i]->restore(*group->members_[i]);
}

void GroupState::save(StateWriter& out, std::string_view prefix) const {
  for (size_t i = 0; i < members_.size(); ++i) members_[i]->save(out, member_prefix(prefix, i));
}

void GroupState::load(StateReader& in, std::string_view prefix) {
  for (size_t i = 0; i < members_.size(); ++i) members_[i]->load(in, member_prefix(prefix, i));
  for (size_t i = 1; i < members_.size(); ++i) {
    if (members_[i]->has_seen(length())) continue;
    throw Error(ErrorKind::kBadInput,
                format("{} is of another length than the {} tokens of {}", member_prefix(prefix, i),
                       length(), member_prefix(prefix, 0)));
  }
}

void GroupState::reset() {
  for (const auto& m : members_) m->reset();
}

}  // namespace braid

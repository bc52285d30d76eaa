#pragma once
// What `braid bench stack` shows of measured costs: a table, one JSON object a line, and one page
// that needs nothing else.

#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/bench/stack_cost.h"

namespace braid {

// Where two stacks cross in something, in words: "A, then B from 3100 tokens on", or "none up to
// 65536 tokens: A is cheaper".
struct CrossoverRow {
  std::string first, second;  // labels
  std::string what;           // "forward", "backward", "decode", "state"
  std::vector<RatioPoint> ratios;
  std::vector<Crossover> found;
  std::string text() const;
};
// Of every pair of stacks.
std::vector<CrossoverRow> crossover_rows(const StackCosts& costs);

std::vector<Json> stack_cost_json(const StackCosts& costs);
std::string stack_cost_table(const StackCosts& costs);
std::string stack_cost_html(const StackCosts& costs);

// Parts of these, for reports that hold more: what a decoded token costs whole stacks, and the
// machine.
std::string decode_table(const StackCosts& costs);
std::string decode_html(const StackCosts& costs);
std::string machine_html(const StackCosts& costs);

}  // namespace braid

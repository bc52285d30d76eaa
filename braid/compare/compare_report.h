#pragma once
// What `braid compare` shows of a comparison: a table, compare.json, and one page that needs
// nothing else.

#include <string>

#include "braid/base/json.h"
#include "braid/compare/compare.h"

namespace braid {

Json compare_json(const Comparison& comparison);
std::string compare_table(const Comparison& comparison);
std::string compare_html(const Comparison& comparison);

// One stack's results, as in compare.json and as an event.
Json stack_result_json(const Comparison& comparison, size_t stack);

// Writes compare.json and compare.html into the comparison's folder, each whole or not at all.
void write_compare_report(const Comparison& comparison);

}  // namespace braid

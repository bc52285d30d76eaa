#pragma once
// What a template finds ready: filters, tests, methods of values and global functions. Each list is
// a table at the end of its file.

#include <initializer_list>
#include <span>

#include "braid/text/jinja/ast.h"

namespace braid::jinja {

// The arguments of one call, given to parameters by position or by name.
class Args {
 public:
  explicit Args(std::string_view function) : function(function) {}
  // Values of the parameters in their order, null where not given. Fails for too many, unknown,
  // repeated or (of the first `required`) missing ones.
  std::vector<const Value*> bind(std::initializer_list<std::string_view> names,
                                 size_t required = 0) const;
  std::string_view function;
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Arguments with a default; the kind is checked.
int64_t whole_or(const Value* v, int64_t other, std::string_view what);
bool truth_or(const Value* v, bool other);
std::string text_or(Heap& heap, const Value* v, std::string_view other);
const std::string& text_of(const Value& v, std::string_view what);  // must be a string
// What filters on text do first: numbers and lists become text, undefined the empty one.
std::string soft_text(Interpreter& in, const Value& v);

Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
std::span<const std::string_view> filter_names();
std::span<const std::string_view> test_names();

struct FilterEntry {
  std::string_view name;
  Filter filter;
};
std::span<const FilterEntry> text_filters();      // filters_text.cpp
std::span<const FilterEntry> sequence_filters();  // filters_sequence.cpp
std::span<const FilterEntry> number_filters();    // filters.cpp

struct Method {
  std::string_view name;
  Value (*call)(Interpreter&, const Value& self, Args&);
  bool changes = false;  // forbidden on values that came in from outside
};
const Method* find_method(const Value& v, std::string_view name);
std::span<const Method> text_methods();  // methods_text.cpp
std::span<const Method> loop_methods();  // loop.cpp

using Global = Value (*)(Interpreter&, Args&);
Global find_global(std::string_view name);  // globals.cpp

}  // namespace braid::jinja

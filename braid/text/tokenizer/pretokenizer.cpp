#include "braid/text/tokenizer/pretokenizer.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/component.h"
#include "braid/text/tokenizer/known_regexes.h"
#include "braid/text/tokenizer/normalizer.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior parse_behavior(const std::string& name) {
  // Both spellings occur in files.
  if (name == "Removed" || name == "removed") return Behavior::kRemoved;
  if (name == "Isolated" || name == "isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious" || name == "merged_with_previous") {
    return Behavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext" || name == "merged_with_next") return Behavior::kMergedWithNext;
  if (name == "Contiguous" || name == "contiguous") return Behavior::kContiguous;
  throw Error(ErrorKind::kBadInput, format("behavior '{}' is not known", printable(name)));
}

struct Part {
  Range range;
  bool match;
};

// Appends the pieces that the parts of one piece become; the parts cover it.
void split(const std::vector<Part>& parts, Behavior behavior, std::vector<Range>& out) {
  const size_t begin = out.size();
  bool previous = false;
  const auto extend = [&](const Part& p, bool joined) {
    if (joined && out.size() > begin) {
      out.back() = {std::min(out.back().begin, p.range.begin),
                    std::max(out.back().end, p.range.end)};
    } else {
      out.push_back(p.range);
    }
    previous = p.match;
  };
  switch (behavior) {
    case Behavior::kRemoved:
      for (const Part& p : parts) {
        if (!p.match) out.push_back(p.range);
      }
      break;
    case Behavior::kIsolated:
      for (const Part& p : parts) out.push_back(p.range);
      break;
    case Behavior::kContiguous:
      for (const Part& p : parts) extend(p, p.match == previous);
      break;
    case Behavior::kMergedWithPrevious:
      for (const Part& p : parts) extend(p, p.match && !previous);
      break;
    case Behavior::kMergedWithNext:
      for (size_t i = parts.size(); i-- > 0;) extend(parts[i], parts[i].match && !previous);
      std::reverse(out.begin() + static_cast<int64_t>(begin), out.end());
      break;
  }
  const auto empty = [](const Range& r) { return r.size() == 0; };
  out.erase(std::remove_if(out.begin() + static_cast<int64_t>(begin), out.end(), empty), out.end());
}

// Splits every piece by find(piece, parts), which appends parts that cover it.
template <typename Find>
void split_pieces(Pieces& pieces, Behavior behavior, const Find& find) {
  std::vector<Range> out;
  std::vector<Part> parts;
  out.reserve(pieces.ranges.size());
  const bool first_stays = pieces.at_start && !pieces.ranges.empty();
  const size_t first = first_stays ? pieces.ranges[0].begin : 0;
  for (const Range& r : pieces.ranges) {
    parts.clear();
    find(std::string_view(pieces.text).substr(r.begin, r.size()), parts);
    for (Part& p : parts) p.range = {p.range.begin + r.begin, p.range.end + r.begin};
    split(parts, behavior, out);
  }
  pieces.ranges = std::move(out);
  pieces.at_start = first_stays && !pieces.ranges.empty() && pieces.ranges[0].begin == first;
}

// Parts by a property of single code points. `keep_runs` false: a part for each match.
template <typename Test>
void parts_where(std::string_view text, const Test& test, std::vector<Part>& parts) {
  size_t at = 0;
  for_each_code_point(text, [&](const CodePoint& c, std::string_view bytes) {
    const bool match = c.valid && test(c.value);
    const Range range{at, at + bytes.size()};
    at = range.end;
    if (!match && !parts.empty() && !parts.back().match) {
      parts.back().range.end = at;
    } else {
      parts.push_back({range, match});
    }
  });
}

class Split final : public PreTokenizer {
 public:
  Split(Regex regex, Behavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}
  void apply(Pieces& pieces, Regex::Scratch& scratch) const override {
    std::vector<Range> matches;
    split_pieces(pieces, behavior_, [&](std::string_view text, std::vector<Part>& parts) {
      matches.clear();
      regex_.find_all(text, scratch, matches);
      size_t at = 0;
      for (const Range& m : matches) {
        if (m.begin > at) parts.push_back({{at, m.begin}, invert_});
        parts.push_back({m, !invert_});
        at = m.end;
      }
      if (at < text.size()) parts.push_back({{at, text.size()}, invert_});
    });
  }

 private:
  Regex regex_;
  Behavior behavior_;
  bool invert_;
};

template <typename Test>
class SplitWhere final : public PreTokenizer {
 public:
  SplitWhere(Test test, Behavior behavior) : test_(test), behavior_(behavior) {}
  void apply(Pieces& pieces, Regex::Scratch&) const override {
    split_pieces(pieces, behavior_, [&](std::string_view text, std::vector<Part>& parts) {
      parts_where(text, test_, parts);
    });
  }

 private:
  Test test_;
  Behavior behavior_;
};

// Runs of word characters and runs of what is neither that nor space.
class Whitespace final : public PreTokenizer {
  void apply(Pieces& pieces, Regex::Scratch&) const override {
    split_pieces(pieces, Behavior::kRemoved, [&](std::string_view text, std::vector<Part>& parts) {
      int last = -1;
      size_t at = 0;
      for_each_code_point(text, [&](const CodePoint& c, std::string_view bytes) {
        const int kind = !c.valid ? 1 : is_white_space(c.value) ? 0 : is_word(c.value) ? 2 : 1;
        if (kind == last) {
          parts.back().range.end = at + bytes.size();
        } else {
          parts.push_back({{at, at + bytes.size()}, kind == 0});
        }
        last = kind;
        at += bytes.size();
      });
    });
  }
};

// Rewrites every piece by edit(piece, first, out).
template <typename Edit>
void rewrite_pieces(Pieces& pieces, const Edit& edit) {
  std::string out;
  out.reserve(pieces.text.size() + pieces.text.size() / 4);
  bool first = pieces.at_start;
  for (Range& r : pieces.ranges) {
    const size_t begin = out.size();
    edit(std::string_view(pieces.text).substr(r.begin, r.size()), first, out);
    first = false;
    r = {begin, out.size()};
  }
  pieces.text = std::move(out);
}

class MapBytes final : public PreTokenizer {
 public:
  void apply(Pieces& pieces, Regex::Scratch&) const override {
    const auto& characters = byte_characters();
    rewrite_pieces(pieces, [&](std::string_view piece, bool, std::string& out) {
      for (const char c : piece) out += characters[static_cast<uint8_t>(c)];
    });
  }
  bool maps_bytes() const override { return true; }
};

class PrefixSpace final : public PreTokenizer {
  void apply(Pieces& pieces, Regex::Scratch&) const override {
    rewrite_pieces(pieces, [&](std::string_view piece, bool, std::string& out) {
      if (!piece.starts_with(' ')) out += ' ';
      out += piece;
    });
  }
};

class Metaspace final : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)),
        marker_(Regex::literal(replacement_)),
        prepend_(prepend),
        split_(split) {}

  void apply(Pieces& pieces, Regex::Scratch& scratch) const override {
    rewrite_pieces(pieces, [&](std::string_view piece, bool first, std::string& out) {
      const bool marked = piece.starts_with(' ') || piece.starts_with(replacement_);
      if (!marked && (prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && first))) {
        out += replacement_;
      }
      for (const char c : piece) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    });
    if (!split_) return;
    std::vector<Range> matches;
    split_pieces(pieces, Behavior::kMergedWithNext,
                 [&](std::string_view text, std::vector<Part>& parts) {
                   matches.clear();
                   marker_.find_all(text, scratch, matches);
                   size_t at = 0;
                   for (const Range& m : matches) {
                     if (m.begin > at) parts.push_back({{at, m.begin}, false});
                     parts.push_back({m, true});
                     at = m.end;
                   }
                   if (at < text.size()) parts.push_back({{at, text.size()}, false});
                 });
  }

 private:
  std::string replacement_;
  Regex marker_;
  Prepend prepend_;
  bool split_;
};

Metaspace::Prepend parse_prepend(const Json& json) {
  const std::string scheme = string_or(
      json, "prepend_scheme", bool_or(json, "add_prefix_space", true) ? "always" : "never");
  if (scheme == "always") return Metaspace::Prepend::kAlways;
  if (scheme == "first") return Metaspace::Prepend::kFirst;
  if (scheme == "never") return Metaspace::Prepend::kNever;
  throw Error(ErrorKind::kBadInput, format("prepend_scheme '{}' is not known", printable(scheme)));
}

template <typename Test>
std::unique_ptr<PreTokenizer> split_where(Test test, Behavior behavior) {
  return std::make_unique<SplitWhere<Test>>(test, behavior);
}

using PreTokenizers = std::vector<std::unique_ptr<PreTokenizer>>;

void add_pretokenizers(const Json& json, int depth, PreTokenizers& all) {
  const std::string& type = component_type(json);
  if (type == "Sequence") {
    if (depth == 0) throw Error(ErrorKind::kBadInput, "pre_tokenizer: sequences nested too deep");
    for (const Json& member : json.at("pretokenizers").elements()) {
      add_pretokenizers(member, depth - 1, all);
    }
  } else if (type == "Split") {
    all.push_back(std::make_unique<Split>(parse_pattern(json.at("pattern")),
                                          parse_behavior(json.at("behavior").as_string()),
                                          bool_or(json, "invert", false)));
  } else if (type == "ByteLevel") {
    if (bool_or(json, "add_prefix_space", true)) all.push_back(std::make_unique<PrefixSpace>());
    if (bool_or(json, "use_regex", true)) all.push_back(split_isolated(Regex(kGpt2Regex)));
    all.push_back(std::make_unique<MapBytes>());
  } else if (type == "Digits") {
    all.push_back(split_where(is_numeric, bool_or(json, "individual_digits", false)
                                              ? Behavior::kIsolated
                                              : Behavior::kContiguous));
  } else if (type == "Whitespace") {
    all.push_back(std::make_unique<Whitespace>());
  } else if (type == "WhitespaceSplit") {
    all.push_back(split_where(is_white_space, Behavior::kRemoved));
  } else if (type == "Punctuation") {
    all.push_back(
        split_where(is_punctuation, parse_behavior(string_or(json, "behavior", "Isolated"))));
  } else if (type == "BertPreTokenizer") {
    all.push_back(split_where(is_white_space, Behavior::kRemoved));
    all.push_back(split_where(is_punctuation, Behavior::kIsolated));
  } else if (type == "CharDelimiterSplit") {
    all.push_back(std::make_unique<Split>(Regex::literal(one_character(json, "delimiter")),
                                          Behavior::kRemoved, false));
  } else if (type == "Metaspace") {
    all.push_back(std::make_unique<Metaspace>(one_character(json, "replacement"),
                                              parse_prepend(json), bool_or(json, "split", true)));
  } else {
    unknown_component("pre_tokenizer", json);
  }
}

}  // namespace

std::unique_ptr<PreTokenizer> split_isolated(Regex regex) {
  return std::make_unique<Split>(std::move(regex), Behavior::kIsolated, false);
}

std::vector<std::unique_ptr<PreTokenizer>> parse_pretokenizers(const Json& json) {
  PreTokenizers all;
  if (!json.is_null()) add_pretokenizers(json, 16, all);
  return all;
}

}  // namespace braid

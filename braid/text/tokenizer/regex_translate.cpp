// Differences between the regex dialects of tokenizer files and PCRE2, resolved in the text of the
// pattern. Whatever is not known here is passed on, and PCRE2 says what it thinks of it.

#include <algorithm>
#include <array>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/regex.h"

namespace braid {
namespace {

constexpr int kMaxNesting = 60;

// Members of a set, to be written between brackets.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr std::string_view kAlphabeticSymbols =
    "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";

struct LongName {
  std::string_view name, code;
};
constexpr std::array<LongName, 27> kLongNames = {{{"letter", "L"},
                                                  {"uppercaseletter", "Lu"},
                                                  {"lowercaseletter", "Ll"},
                                                  {"titlecaseletter", "Lt"},
                                                  {"modifierletter", "Lm"},
                                                  {"otherletter", "Lo"},
                                                  {"mark", "M"},
                                                  {"nonspacingmark", "Mn"},
                                                  {"spacingmark", "Mc"},
                                                  {"enclosingmark", "Me"},
                                                  {"number", "N"},
                                                  {"decimalnumber", "Nd"},
                                                  {"letternumber", "Nl"},
                                                  {"othernumber", "No"},
                                                  {"punctuation", "P"},
                                                  {"symbol", "S"},
                                                  {"mathsymbol", "Sm"},
                                                  {"currencysymbol", "Sc"},
                                                  {"modifiersymbol", "Sk"},
                                                  {"othersymbol", "So"},
                                                  {"separator", "Z"},
                                                  {"spaceseparator", "Zs"},
                                                  {"other", "C"},
                                                  {"control", "Cc"},
                                                  {"format", "Cf"},
                                                  {"connectorpunctuation", "Pc"},
                                                  {"dashpunctuation", "Pd"}}};

class Translator {
 public:
  Translator(std::string_view pattern, RegexSyntax syntax) : in_(pattern), syntax_(syntax) {}

  std::string run() {
    while (at_ < in_.size()) token();
    return std::move(out_);
  }

 private:
  bool ruby() const { return syntax_ == RegexSyntax::kOniguruma; }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  [[noreturn]] void fail(const char* what) const {
    throw Error(ErrorKind::kBadInput,
                format("regex {}: {} at byte {}", printable(in_, 200), what, at_));
  }

  // Members of the set that an escape letter stands for; empty when it stands for no set here.
  std::string set_of(char letter) const {
    switch (letter) {
      case 's':
        return std::string(kSpace);
      case 'd':
        return "\\p{Nd}";
      case 'w':
        return (ruby() ? "\\p{L}\\p{M}\\p{N}\\p{Pc}" : "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}") +
               std::string(kAlphabeticSymbols) + (ruby() ? "" : "\\x{200c}\\x{200d}");
      case 'h':
        return ruby() ? "0-9a-fA-F" : "";
      default:
        return "";
    }
  }

  // "\p{Letter}" at the backslash -> "\p{L}".
  std::string property() {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == in_.npos) {
      const std::string_view shorthand = in_.substr(at_, 3);
      at_ += shorthand.size();
      return std::string(shorthand);
    }
    const std::string_view given = in_.substr(at_, close + 1 - at_);
    at_ = close + 1;
    std::string name(given.substr(3, given.size() - 4));
    const bool negated = name.starts_with('^');
    if (negated) name.erase(0, 1);
    std::string plain;
    for (const char c : name) {
      if (c == '_' || c == ' ' || c == '-') continue;
      plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    const auto known = std::find_if(kLongNames.begin(), kLongNames.end(),
                                    [&](const LongName& n) { return n.name == plain; });
    if (known != kLongNames.end()) name = known->code;
    return std::string(given.substr(0, 3)) + (negated ? "^" : "") + name + "}";
  }

  // An escape that is one character or a property, at the backslash.
  std::string plain_escape() {
    const char letter = in_[at_ + 1];
    if (letter == 'p' || letter == 'P') return property();
    if (letter == 'u' && at_ + 6 <= in_.size()) {
      const std::string_view hex = in_.substr(at_ + 2, 4);
      at_ += 6;
      return format("\\x{{{}}}", hex);
    }
    // A code point may follow the backslash.
    size_t bytes = 2;
    while (at_ + bytes < in_.size() && (static_cast<uint8_t>(in_[at_ + bytes]) & 0xC0) == 0x80) {
      ++bytes;
    }
    const std::string_view same = in_.substr(at_, bytes);
    at_ += bytes;
    return std::string(same);
  }

  // A set after its opening bracket, as a pattern that matches one character.
  struct Part {
    std::string items;                      // what plain brackets can hold
    std::vector<std::string> alternatives;  // what they cannot
    std::string pattern() const {
      std::string p = items.empty() ? "" : "[" + items + "]";
      for (const std::string& a : alternatives) p += (p.empty() ? "" : "|") + a;
      if (p.empty()) return "(?!)";
      return alternatives.size() + (items.empty() ? 0 : 1) > 1 ? "(?:" + p + ")" : p;
    }
  };

  std::string set(int depth) {
    if (depth > kMaxNesting) fail("sets nested too deep");
    bool negated = false;
    if (next_is("^")) {
      negated = true;
      ++at_;
    }
    std::vector<Part> parts(1);
    if (next_is("]")) {
      parts.back().items += "\\]";
      ++at_;
    }
    while (!next_is("]")) {
      if (at_ >= in_.size()) fail("a set without its ]");
      if (next_is("&&")) {
        at_ += 2;
        parts.emplace_back();
      } else {
        set_item(parts.back(), depth);
      }
    }
    ++at_;
    if (parts.size() == 1 && parts[0].alternatives.empty()) {
      return (negated ? "[^" : "[") + parts[0].items + "]";
    }
    std::string p;
    for (size_t i = 1; i < parts.size(); ++i) p += "(?=" + parts[i].pattern() + ")";
    p += parts[0].pattern();
    return negated ? "(?:(?!" + p + ")(?s:.))" : "(?:" + p + ")";
  }

  void set_item(Part& part, int depth) {
    if (next_is("[:")) {
      const size_t close = in_.find(":]", at_);
      if (close != in_.npos) {
        const std::string_view name = in_.substr(at_, close + 2 - at_);
        part.items += ruby() && name == "[:punct:]"   ? "\\p{P}\\p{S}"
                      : ruby() && name == "[:alpha:]" ? "\\p{Alphabetic}"
                                                      : name;
        at_ = close + 2;
        return;
      }
    }
    if (next_is("[")) {
      ++at_;
      part.alternatives.push_back(set(depth + 1));
      return;
    }
    if (in_[at_] != '\\') {
      part.items += in_[at_++];
      return;
    }
    if (at_ + 1 >= in_.size()) fail("a backslash at the end");
    const char letter = in_[at_ + 1];
    if (const std::string inside = set_of(letter); !inside.empty()) {
      part.items += inside;
      at_ += 2;
    } else if (const std::string outside = set_of(static_cast<char>(letter | 0x20));
               !outside.empty() && letter < 'a') {
      part.alternatives.push_back("[^" + outside + "]");
      at_ += 2;
    } else {
      part.items += plain_escape();
    }
  }

  void escape() {
    if (at_ + 1 >= in_.size()) fail("a backslash at the end");
    const char letter = in_[at_ + 1];
    if (const std::string inside = set_of(letter); !inside.empty()) {
      out_ += "[" + inside + "]";
      at_ += 2;
    } else if (const std::string outside = set_of(static_cast<char>(letter | 0x20));
               !outside.empty() && letter < 'a') {
      out_ += "[^" + outside + "]";
      at_ += 2;
    } else {
      out_ += plain_escape();
    }
  }

  // "(?im-x:" and "(?i)": Ruby's m is everybody else's s.
  void open_group() {
    groups_.push_back(out_.size());
    out_ += '(';
    ++at_;
    if (!next_is("?")) return;
    const size_t end = in_.find_first_not_of("imx-", at_ + 1);
    if (end == in_.npos || end == at_ + 1 || (in_[end] != ':' && in_[end] != ')')) return;
    for (; at_ < end; ++at_) out_ += ruby() && in_[at_] == 'm' ? 's' : in_[at_];
  }

  // "{1,3}" after an atom that began at `atom`; Ruby's "{1,3}+" repeats the repetition.
  void interval(size_t atom) {
    const size_t close = in_.find_first_not_of("0123456789,", at_ + 1);
    if (close == in_.npos || in_[close] != '}' || close == at_ + 1) {
      out_ += in_[at_++];
      return;
    }
    out_ += in_.substr(at_, close + 1 - at_);
    at_ = close + 1;
    if (ruby() && next_is("+")) {
      out_.insert(atom, "(?:");
      out_ += ")+";
      ++at_;
    }
  }

  void token() {
    const char c = in_[at_];
    const size_t begin = out_.size();
    if (c == '\\') {
      escape();
    } else if (c == '[') {
      ++at_;
      out_ += set(0);
    } else if (c == '(') {
      open_group();
      return;
    } else if (c == ')') {
      out_ += c;
      ++at_;
      if (!groups_.empty()) {
        atom_ = groups_.back();
        groups_.pop_back();
      }
      return;
    } else if (c == '{') {
      interval(atom_);
      return;
    } else if (c == '*' || c == '+' || c == '?') {
      out_ += c;  // belongs to the atom before it
      ++at_;
      return;
    } else {
      do {
        out_ += in_[at_++];
      } while (at_ < in_.size() && (static_cast<uint8_t>(in_[at_]) & 0xC0) == 0x80);
    }
    atom_ = begin;
  }

  std::string_view in_;
  RegexSyntax syntax_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where the last atom begins in out_
  std::vector<size_t> groups_;  // where the open ones begin
};

}  // namespace

std::string translate_regex(std::string_view pattern, RegexSyntax syntax) {
  if (pattern.size() > (size_t{1} << 16)) {
    throw Error(ErrorKind::kBadInput,
                format("a regex of {} bytes; at most {}", pattern.size(), size_t{1} << 16));
  }
  return Translator(pattern, syntax).run();
}

}  // namespace braid

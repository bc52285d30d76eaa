#pragma once
// Regular expressions as tokenizers use them: Oniguruma's (tokenizer.json) or Rust's (tiktoken)
// syntax, translated to PCRE2 with Unicode properties and compiled to machine code.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

struct Range {
  size_t begin = 0, end = 0;
  size_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

enum class RegexSyntax {
  kOniguruma,  // Ruby's: ^ and $ at every line, {1,3}+ repeats a group, \h is a hex digit
  kRust        // possessive {1,3}+, \w with joiners; what a tiktoken pattern means
};

// The same expression for PCRE2 with UTF and UCP: set intersections and nested sets become
// lookaheads and alternatives, \s \w \d become the sets of the syntax.
std::string translate_regex(std::string_view pattern, RegexSyntax syntax);

class Regex {
 public:
  // What one thread needs to match.
  class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;

   private:
    friend class Regex;
    struct Handles;
    std::unique_ptr<Handles> handles_;
  };

  // Throws Error(kBadInput) with the pattern, the reason and the place.
  explicit Regex(std::string_view pattern, RegexSyntax syntax = RegexSyntax::kOniguruma);
  static Regex literal(std::string_view text);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // All matches from left to right, none overlapping, appended. Empty ones too, but not right where
  // the match before ended. Bytes that are no UTF-8 match nothing and end what stands before them.
  void find_all(std::string_view text, Scratch& scratch, std::vector<Range>& matches) const;

 private:
  struct Code;
  void find_in_valid(std::string_view text, size_t shift, Scratch& scratch,
                     std::vector<Range>& matches) const;
  std::unique_ptr<Code> code_;
  std::string literal_;  // when not empty: searched for as it is
};

}  // namespace braid

#include "braid/text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

// Enough for any pattern that tokenizers use on any text; a pattern that explodes ends in an error.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr size_t kJitStackBytes = size_t{8} << 20;

std::string pcre_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Scratch::Handles {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);
  Handles() {
    BRAID_CHECK(data != nullptr && context != nullptr && stack != nullptr);
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, kMatchLimit);
  }
  ~Handles() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
};

Regex::Scratch::Scratch() : handles_(std::make_unique<Handles>()) {}
Regex::Scratch::~Scratch() = default;
Regex::Scratch::Scratch(Scratch&&) noexcept = default;
Regex::Scratch& Regex::Scratch::operator=(Scratch&&) noexcept = default;

struct Regex::Code {
  std::string pattern;  // as given
  pcre2_code* code = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, RegexSyntax syntax) : code_(std::make_unique<Code>()) {
  const std::string translated = translate_regex(pattern, syntax);
  int error = 0;
  PCRE2_SIZE offset = 0;
  const uint32_t anchors =
      syntax == RegexSyntax::kOniguruma ? PCRE2_MULTILINE : PCRE2_DOLLAR_ENDONLY;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  BRAID_CHECK(context != nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  code_->pattern = pattern;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | anchors, &error,
                              &offset, context);
  pcre2_compile_context_free(context);
  if (code_->code == nullptr) {
    throw Error(ErrorKind::kBadInput,
                format("regex {}: {} (at byte {} of {})", printable(pattern, 200),
                       pcre_message(error), offset, printable(translated, 200)));
  }
  code_->jit = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;
}

Regex Regex::literal(std::string_view text) {
  Regex r{std::string_view("")};
  r.literal_ = text;
  return r;
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::find_all(std::string_view text, Scratch& scratch, std::vector<Range>& matches) const {
  if (!literal_.empty()) {
    for (size_t at = text.find(literal_); at != text.npos;
         at = text.find(literal_, at + literal_.size())) {
      matches.push_back({at, at + literal_.size()});
    }
    return;
  }
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t valid = valid_utf8_prefix(text.substr(begin));
    if (valid > 0) find_in_valid(text.substr(begin, valid), begin, scratch, matches);
    begin += valid + 1;
  }
}

void Regex::find_in_valid(std::string_view text, size_t shift, Scratch& scratch,
                          std::vector<Range>& matches) const {
  const Scratch::Handles& h = *scratch.handles_;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(h.data);
  size_t from = 0, last_end = SIZE_MAX;
  while (from <= text.size()) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (code_->jit) {
      rc = pcre2_jit_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, h.data,
                           h.context);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      rc = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       h.data, h.context);
    }
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0) {
      throw Error(ErrorKind::kBadInput,
                  format("regex {} on a text of {} bytes: {}", printable(code_->pattern, 200),
                         text.size(), pcre_message(rc)));
    }
    const Range match{found[0], found[1]};
    // \K and lookbehinds can report a match that begins before the search did.
    const bool forward = match.begin >= (last_end == SIZE_MAX ? 0 : last_end) &&
                         match.end >= match.begin && match.end >= from;
    if (forward && !(match.size() == 0 && match.end == last_end)) {
      matches.push_back({match.begin + shift, match.end + shift});
      last_end = from = match.end;
      continue;
    }
    if (from == text.size()) return;
    from += static_cast<size_t>(first_code_point(text.substr(from)).bytes);
  }
}

}  // namespace braid

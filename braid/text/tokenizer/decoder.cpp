#include "braid/text/tokenizer/decoder.h"

#include "braid/base/error.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/component.h"
#include "braid/text/tokenizer/normalizer.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Where the chain ends.
class Sink final : public DecodeStep {
 public:
  void push(std::string_view token) override { *out += token; }
  std::string* out = nullptr;
};

// Waits for all chunks of a joined token and hands them on as one.
class Whole final : public DecodeStep {
 public:
  explicit Whole(std::unique_ptr<DecodeStep> step) : step_(std::move(step)) {}
  void push(std::string_view chunk) override { token_ += chunk; }
  void finish() override {
    step_->set_next(next());
    step_->push(token_);
    step_->finish();
  }

 private:
  std::unique_ptr<DecodeStep> step_;
  std::string token_;
};

// A step that turns one token into one token and remembers nothing but whether it is the first.
template <typename Edit>
class EachToken final : public DecodeStep {
 public:
  explicit EachToken(Edit edit) : edit_(std::move(edit)) {}
  void push(std::string_view token) override {
    emit(edit_(token, first_));
    first_ = false;
  }

 private:
  Edit edit_;
  bool first_ = true;
};

template <typename Edit>
std::unique_ptr<DecodeStep> each_token(Edit edit, bool joined) {
  std::unique_ptr<DecodeStep> step = std::make_unique<EachToken<Edit>>(std::move(edit));
  if (joined) step = std::make_unique<Whole>(std::move(step));
  return step;
}

class ByteLevelStep final : public DecodeStep {
 public:
  explicit ByteLevelStep(bool lossy) : lossy_(lossy) {}
  void push(std::string_view token) override {
    bytes_.clear();
    if (!unmap_bytes(token, bytes_)) bytes_ = token;
    if (!lossy_) return emit(bytes_);
    text_.clear();
    repair_.push(bytes_, text_);
    if (!text_.empty()) emit(text_);
  }
  void finish() override {
    text_.clear();
    repair_.finish(text_);
    if (!text_.empty()) emit(text_);
  }

 private:
  bool lossy_;
  Utf8Repair repair_;
  std::string bytes_, text_;
};

class ByteLevelRule final : public DecodeRule {
  std::unique_ptr<DecodeStep> start(bool& joined, bool lossy) const override {
    std::unique_ptr<DecodeStep> step = std::make_unique<ByteLevelStep>(lossy);
    if (joined) step = std::make_unique<Whole>(std::move(step));
    joined = true;
    return step;
  }
};

// A run of "<0xHH>" is text when all of it is UTF-8, else a replacement for every byte: known when
// the run ends.
class ByteFallbackStep final : public DecodeStep {
 public:
  explicit ByteFallbackStep(bool lossy) : lossy_(lossy) {}
  void push(std::string_view token) override {
    if (const int byte = byte_of(token); byte >= 0) {
      run_ += static_cast<char>(byte);
      return;
    }
    flush();
    emit(token);
  }
  void finish() override { flush(); }

 private:
  static int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  }
  static int byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
    const int high = digit(token[3]), low = digit(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
  }
  void flush() {
    if (run_.empty()) return;
    if (!lossy_ || valid_utf8_prefix(run_) == run_.size()) {
      emit(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) emit(kReplacement);
    }
    run_.clear();
  }
  bool lossy_;
  std::string run_;
};

class ByteFallbackRule final : public DecodeRule {
  std::unique_ptr<DecodeStep> start(bool& joined, bool lossy) const override {
    std::unique_ptr<DecodeStep> step = std::make_unique<ByteFallbackStep>(lossy);
    if (joined) step = std::make_unique<Whole>(std::move(step));
    return step;
  }
};

class FuseRule final : public DecodeRule {
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    joined = true;
    const auto same = [](std::string_view token, bool) { return token; };
    return std::make_unique<EachToken<decltype(same)>>(same);
  }
};

// Every occurrence of a text in a joined token; its start at the end of a chunk waits.
class ReplaceJoined final : public DecodeStep {
 public:
  ReplaceJoined(const std::string& text, const std::string& content)
      : text_(text), content_(content) {}
  void push(std::string_view chunk) override {
    held_ += chunk;
    std::string out;
    size_t at = 0;
    for (size_t found; (found = held_.find(text_, at)) != held_.npos; at = found + text_.size()) {
      out.append(held_, at, found - at).append(content_);
    }
    size_t keep = std::min(text_.size() - 1, held_.size() - at);
    while (keep > 0 && held_.compare(held_.size() - keep, keep, text_, 0, keep) != 0) --keep;
    out.append(held_, at, held_.size() - keep - at);
    held_.erase(0, held_.size() - keep);
    if (!out.empty()) emit(out);
  }
  void finish() override {
    if (!held_.empty()) emit(held_);
  }

 private:
  const std::string& text_;
  const std::string& content_;
  std::string held_;
};

class ReplaceRule final : public DecodeRule {
 public:
  explicit ReplaceRule(const Json& json)
      : pattern_(parse_pattern(json.at("pattern"))), content_(json.at("content").as_string()) {
    if (const Json* text = json.at("pattern").find("String")) text_ = text->as_string();
  }
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    if (joined && !text_.empty()) return std::make_unique<ReplaceJoined>(text_, content_);
    return each_token(
        [this, scratch = std::make_shared<Regex::Scratch>()](std::string_view token, bool) {
          return replace_all(pattern_, token, content_, *scratch);
        },
        joined);
  }

 private:
  Regex pattern_;
  std::string text_;
  std::string content_;
};

std::string stripped(std::string_view token, const std::string& content, int64_t start,
                     int64_t stop) {
  for (; start > 0 && token.starts_with(content); --start) token.remove_prefix(content.size());
  for (; stop > 0 && token.ends_with(content); --stop) token.remove_suffix(content.size());
  return std::string(token);
}

// The same of a joined token: what may be its end waits.
class StripJoined final : public DecodeStep {
 public:
  StripJoined(const std::string& content, int64_t start, int64_t stop)
      : content_(content), start_(start), stop_(stop) {}
  void push(std::string_view chunk) override {
    held_ += chunk;
    while (start_ > 0 && !held_.empty()) {
      if (!held_.starts_with(content_)) {
        if (content_.starts_with(held_)) return;  // half a character
        start_ = 0;
        break;
      }
      held_.erase(0, content_.size());
      --start_;
    }
    size_t keep = held_.size();
    for (int64_t n = 0; n < stop_ && std::string_view(held_).substr(0, keep).ends_with(content_);
         ++n) {
      keep -= content_.size();
    }
    if (keep > 0) emit(std::string_view(held_).substr(0, keep));
    held_.erase(0, keep);
  }
  void finish() override {
    const std::string rest = stripped(held_, content_, start_, stop_);
    if (!rest.empty()) emit(rest);
  }

 private:
  const std::string& content_;
  int64_t start_, stop_;
  std::string held_;
};

class StripRule final : public DecodeRule {
 public:
  explicit StripRule(const Json& json)
      : content_(one_character(json, "content")),
        start_(int_or(json, "start", 0)),
        stop_(int_or(json, "stop", 0)) {}
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    if (joined) return std::make_unique<StripJoined>(content_, start_, stop_);
    return each_token(
        [this](std::string_view token, bool) { return stripped(token, content_, start_, stop_); },
        false);
  }

 private:
  std::string content_;
  int64_t start_, stop_;
};

// The replacement becomes a space; in the first token it is dropped, unless nothing was prepended.
class MetaspaceRule final : public DecodeRule {
 public:
  explicit MetaspaceRule(const Json& json)
      : replacement_(one_character(json, "replacement")),
        keep_first_(string_or(json, "prepend_scheme",
                              bool_or(json, "add_prefix_space", true) ? "always" : "never") ==
                    "never") {}
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    return each_token(
        [this](std::string_view token, bool first) {
          std::string out;
          size_t at = 0;
          for (size_t found; (found = token.find(replacement_, at)) != token.npos;
               at = found + replacement_.size()) {
            out.append(token.substr(at, found - at));
            if (!first || keep_first_) out += ' ';
          }
          return out.append(token.substr(at));
        },
        joined);
  }

 private:
  std::string replacement_;
  bool keep_first_;
};

void replace_text(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

class WordPieceRule final : public DecodeRule {
 public:
  explicit WordPieceRule(const Json& json)
      : prefix_(string_or(json, "prefix", "##")), cleanup_(bool_or(json, "cleanup", true)) {}
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    return each_token(
        [this](std::string_view token, bool first) {
          std::string out;
          if (!first && !token.starts_with(prefix_)) out += ' ';
          out += !first && token.starts_with(prefix_) ? token.substr(prefix_.size()) : token;
          if (cleanup_) clean_up(out);
          return out;
        },
        joined);
  }

 private:
  static void clean_up(std::string& text) {
    constexpr std::pair<std::string_view, std::string_view> kEnglish[] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : kEnglish) replace_text(text, from, to);
  }
  std::string prefix_;
  bool cleanup_;
};

// The suffix ends a word: a space, except after the last token, which therefore waits.
class SuffixStep final : public DecodeStep {
 public:
  explicit SuffixStep(const std::string& suffix) : suffix_(suffix) {}
  void push(std::string_view token) override {
    release(" ");
    held_ = token;
    any_ = true;
  }
  void finish() override { release(""); }

 private:
  void release(std::string_view end) {
    if (!any_) return;
    if (!suffix_.empty()) replace_text(held_, suffix_, end);
    emit(held_);
  }
  const std::string& suffix_;
  std::string held_;
  bool any_ = false;
};

class SuffixRule final : public DecodeRule {
 public:
  explicit SuffixRule(const Json& json) : suffix_(string_or(json, "suffix", "</w>")) {}
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    std::unique_ptr<DecodeStep> step = std::make_unique<SuffixStep>(suffix_);
    if (joined) step = std::make_unique<Whole>(std::move(step));
    return step;
  }

 private:
  std::string suffix_;
};

class SpacesRule final : public DecodeRule {
  std::unique_ptr<DecodeStep> start(bool& joined, bool) const override {
    return each_token(
        [](std::string_view token, bool first) {
          std::string out;
          if (!first) out += ' ';
          return out += token;
        },
        joined);
  }
};

using Rules = std::vector<std::unique_ptr<DecodeRule>>;

void add_rules(const Json& json, int depth, Rules& all) {
  const std::string& type = component_type(json);
  if (type == "Sequence") {
    if (depth == 0) throw Error(ErrorKind::kBadInput, "decoder: sequences nested too deep");
    for (const Json& member : json.at("decoders").elements()) add_rules(member, depth - 1, all);
  } else if (type == "ByteLevel") {
    all.push_back(byte_level_decoder());
  } else if (type == "ByteFallback") {
    all.push_back(std::make_unique<ByteFallbackRule>());
  } else if (type == "Fuse") {
    all.push_back(std::make_unique<FuseRule>());
  } else if (type == "Replace") {
    all.push_back(std::make_unique<ReplaceRule>(json));
  } else if (type == "Strip") {
    all.push_back(std::make_unique<StripRule>(json));
  } else if (type == "Metaspace") {
    all.push_back(std::make_unique<MetaspaceRule>(json));
  } else if (type == "WordPiece") {
    all.push_back(std::make_unique<WordPieceRule>(json));
  } else if (type == "BPEDecoder") {
    all.push_back(std::make_unique<SuffixRule>(json));
  } else {
    unknown_component("decoder", json);
  }
}

// The steps in a row.
class Chain final : public DecodeStream {
 public:
  Chain(const Rules& rules, bool lossy) {
    bool joined = false;
    for (const auto& rule : rules) steps_.push_back(rule->start(joined, lossy));
    steps_.push_back(std::make_unique<Sink>());
    for (size_t i = 0; i + 1 < steps_.size(); ++i) steps_[i]->set_next(steps_[i + 1].get());
  }
  void push(std::string_view token, std::string& out) override {
    write_to(out);
    steps_.front()->push(token);
  }
  void finish(std::string& out) override {
    write_to(out);
    for (const auto& step : steps_) step->finish();
  }

 private:
  void write_to(std::string& out) { static_cast<Sink&>(*steps_.back()).out = &out; }
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

}  // namespace

Rules parse_decoder(const Json& json) {
  Rules all;
  if (json.is_null()) {
    all.push_back(std::make_unique<SpacesRule>());
  } else {
    add_rules(json, 16, all);
  }
  return all;
}

std::unique_ptr<DecodeRule> byte_level_decoder() { return std::make_unique<ByteLevelRule>(); }

std::unique_ptr<DecodeStream> start_decoder(const Rules& rules, bool lossy) {
  return std::make_unique<Chain>(rules, lossy);
}

}  // namespace braid

#include "braid/text/tokenizer/normalizer.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/component.h"
#include "braid/text/tokenizer/precompiled.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

std::string lowercased(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](const CodePoint& c, std::string_view bytes) {
    if (c.valid) {
      append_lowercase(out, c.value);
    } else {
      out += bytes;
    }
  });
  return out;
}

std::string without_marks(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](const CodePoint& c, std::string_view bytes) {
    if (!c.valid || !is_mark(c.value)) out += bytes;
  });
  return out;
}

class Form final : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void apply(std::string& text, Regex::Scratch&) const override { text = normal_form(text, form_); }

 private:
  NormalForm form_;
};

class Lowercase final : public Normalizer {
  void apply(std::string& text, Regex::Scratch&) const override { text = lowercased(text); }
};

class StripAccents final : public Normalizer {
  void apply(std::string& text, Regex::Scratch&) const override { text = without_marks(text); }
};

class MapBytes final : public Normalizer {
  void apply(std::string& text, Regex::Scratch&) const override { text = map_bytes(text); }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text, Regex::Scratch&) const override {
    std::string_view rest = text;
    while (left_ && !rest.empty()) {
      const CodePoint c = first_code_point(rest);
      if (!is_white_space(c.value)) break;
      rest.remove_prefix(static_cast<size_t>(c.bytes));
    }
    while (right_ && !rest.empty()) {
      const CodePoint c = last_code_point(rest);
      if (!is_white_space(c.value)) break;
      rest.remove_suffix(static_cast<size_t>(c.bytes));
    }
    text = std::string(rest);
  }

 private:
  bool left_, right_;
};

class Replace final : public Normalizer {
 public:
  Replace(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::string& text, Regex::Scratch& scratch) const override {
    text = replace_all(pattern_, text, content_, scratch);
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  void apply(std::string& text, Regex::Scratch&) const override {
    if (!text.empty()) text.insert(0, text_);
  }

 private:
  std::string text_;
};

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const Json& json)
      : clean_(bool_or(json, "clean_text", true)),
        chinese_(bool_or(json, "handle_chinese_chars", true)),
        lowercase_(bool_or(json, "lowercase", true)),
        strip_(bool_or(json, "strip_accents", lowercase_)) {}

  void apply(std::string& text, Regex::Scratch&) const override {
    std::string out;
    out.reserve(text.size());
    for_each_code_point(text, [&](const CodePoint& c, std::string_view bytes) {
      const bool space = c.valid && is_white_space(c.value);
      if (clean_ && (c.value == 0 || c.value == 0xFFFD || is_control(c.value))) return;
      if (clean_ && space) {
        out += ' ';
      } else if (chinese_ && is_cjk_ideograph(c.value)) {
        out.append(" ").append(bytes).append(" ");
      } else {
        out += bytes;
      }
    });
    if (strip_) out = without_marks(normal_form(out, NormalForm::kNfd));
    text = lowercase_ ? lowercased(out) : out;
  }

 private:
  bool clean_, chinese_, lowercase_, strip_;
};

void add_normalizers(const Json& json, int depth, std::vector<std::unique_ptr<Normalizer>>& all) {
  const std::string& type = component_type(json);
  const auto add = [&](auto* n) { all.emplace_back(n); };
  if (type == "Sequence") {
    if (depth == 0) throw Error(ErrorKind::kBadInput, "normalizer: sequences nested too deep");
    for (const Json& member : json.at("normalizers").elements()) {
      add_normalizers(member, depth - 1, all);
    }
  } else if (type == "NFC") {
    add(new Form(NormalForm::kNfc));
  } else if (type == "NFD") {
    add(new Form(NormalForm::kNfd));
  } else if (type == "NFKC") {
    add(new Form(NormalForm::kNfkc));
  } else if (type == "NFKD") {
    add(new Form(NormalForm::kNfkd));
  } else if (type == "Lowercase") {
    add(new Lowercase);
  } else if (type == "StripAccents") {
    add(new StripAccents);
  } else if (type == "ByteLevel") {
    add(new MapBytes);
  } else if (type == "Strip") {
    add(new Strip(bool_or(json, "strip_left", true), bool_or(json, "strip_right", true)));
  } else if (type == "Replace") {
    add(new Replace(parse_pattern(json.at("pattern")), json.at("content").as_string()));
  } else if (type == "Prepend") {
    add(new Prepend(json.at("prepend").as_string()));
  } else if (type == "BertNormalizer") {
    add(new BertNormalizer(json));
  } else if (type == "Precompiled") {
    all.push_back(parse_precompiled(json.at("precompiled_charsmap").as_string()));
  } else {
    unknown_component("normalizer", json);
  }
}

}  // namespace

std::vector<std::unique_ptr<Normalizer>> parse_normalizers(const Json& json) {
  std::vector<std::unique_ptr<Normalizer>> all;
  if (!json.is_null()) add_normalizers(json, 16, all);
  return all;
}

Regex parse_pattern(const Json& json) {
  if (const Json* text = json.find("String")) return Regex::literal(text->as_string());
  if (const Json* regex = json.find("Regex")) return Regex(regex->as_string());
  throw Error(ErrorKind::kBadInput,
              format("pattern {} is neither String nor Regex", printable(json.dump())));
}

std::string replace_all(const Regex& pattern, std::string_view text, std::string_view content,
                        Regex::Scratch& scratch) {
  std::vector<Range> matches;
  pattern.find_all(text, scratch, matches);
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  for (const Range& m : matches) {
    out.append(text.substr(at, m.begin - at)).append(content);
    at = m.end;
  }
  return out.append(text.substr(at));
}

}  // namespace braid

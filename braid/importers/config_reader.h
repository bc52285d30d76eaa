#pragma once
// A Hugging Face config.json, read strictly: every key is asked for, known to be harmless, or an
// error. Keys that hold null count as absent.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/json.h"

namespace braid {

// A config.json as Python writes it, with Infinity. Throws Error(kBadInput) with its place.
Json parse_config(std::string_view text);
Json load_config(const std::string& path);

class ConfigReader {
 public:
  using Keys = std::initializer_list<const char*>;  // synonyms, the first one found counts

  // `source` names the file in errors. Where there is a `text_config`, its keys are the language
  // model's; of the outer ones, which describe other towers, only quantization_config and
  // tie_word_embeddings are read. The configurations of state-spaces/mamba have no model_type; it
  // is then ssm_cfg.layer, "Mamba1" or "Mamba2".
  ConfigReader(Json root, std::string source);

  const std::string& source() const { return source_; }
  const std::string& model_type() const { return model_type_; }  // of the text part
  bool nested() const { return nested_; }

  bool has(const char* key);
  bool explicit_null(const char* key);  // present and null, which some classes tell from absent
  // The value, null when absent; marks the key as read.
  const Json* find(const char* key);
  // Whole numbers from 0 to `most`; real numbers are finite.
  std::optional<int64_t> maybe_integer(Keys keys, int64_t most = kMostSize);
  int64_t integer(Keys keys, std::optional<int64_t> fallback, int64_t most = kMostSize);
  int64_t integer(const char* key, std::optional<int64_t> fallback, int64_t most = kMostSize) {
    return integer({key}, fallback, most);
  }
  double real(const char* key, std::optional<double> fallback);
  bool boolean(const char* key, bool fallback);
  std::string text(const char* key, const std::string& fallback);
  std::vector<int64_t> integers(const char* key);   // empty when absent
  std::vector<std::string> texts(const char* key);  // empty when absent
  // Throws unless the text is one of `known`, or absent.
  void require_text(const char* key, Keys known);
  void require_boolean(const char* key, bool wanted);     // or absent
  void require_integer(const char* key, int64_t wanted);  // or absent
  // Throws where none of them is given: releases of the class differ in what that means.
  void require_given(Keys keys);
  // None where the key is absent, or where text_config and the outer object disagree: releases of
  // transformers differ in which of the two counts.
  std::optional<bool> tied_embeddings();
  // Keys of this family that say nothing about the maths.
  void ignore(Keys keys);
  [[noreturn]] void fail(const std::string& what) const;  // kBadInput, names the file

  // Throws for every key that nobody asked for.
  void finish() const;

  static constexpr int64_t kMostSize = int64_t{1} << 24;  // widths, vocabularies, counts

 private:
  Json root_;
  std::string source_;
  std::string model_type_;
  const Json* config_;  // root_ or its text_config
  bool nested_ = false;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace braid

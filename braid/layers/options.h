#pragma once
// Key-value settings of one layer, as written in a stack expression: kda{heads=16,
// gate_lower_bound=-5}.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

class Options {
 public:
  struct Item {
    std::string key;
    std::string value;
    int column = 0;  // 1-based in the stack expression, 0 = unknown
  };
  void set(std::string key, std::string value, int column = 0);
  const std::vector<Item>& items() const { return items_; }
  bool empty() const { return items_.empty(); }
  std::string str() const;  // "heads=16,gate=true"

 private:
  std::vector<Item> items_;
};

// Reads a layer's struct out of Options and writes it back, from one list of fields, so that parse
// and print cannot disagree. A layer says once:
//   void visit(OptionVisitor& v) { v.field("heads", heads, int64_t{0}); v.field("gate", gate,
//   false); ... }
// Reading: unknown keys, bad numbers and repeated keys throw Error(kUsage) with the key, the layer,
// the column and the nearest known key. Writing: fields that equal their default are left out.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void field(const char* key, int64_t& value, int64_t fallback) = 0;
  virtual void field(const char* key, double& value, double fallback) = 0;
  virtual void field(const char* key, bool& value, bool fallback) = 0;
  virtual void field(const char* key, std::string& value, const std::string& fallback) = 0;
};

// A Config is any struct with `void visit(OptionVisitor&)`.
class OptionReader final : public OptionVisitor {
 public:
  OptionReader(std::string_view layer, const Options& options);
  void field(const char* key, int64_t& value, int64_t fallback) override;
  void field(const char* key, double& value, double fallback) override;
  void field(const char* key, bool& value, bool fallback) override;
  void field(const char* key, std::string& value, const std::string& fallback) override;
  void finish() const;  // throws for keys that no field took

 private:
  const Options::Item* take(const char* key);
  std::string layer_;
  const Options& options_;
  std::vector<const char*> known_;
};

class OptionWriter final : public OptionVisitor {
 public:
  void field(const char* key, int64_t& value, int64_t fallback) override;
  void field(const char* key, double& value, double fallback) override;
  void field(const char* key, bool& value, bool fallback) override;
  void field(const char* key, std::string& value, const std::string& fallback) override;
  Options take() { return std::move(out_); }

 private:
  Options out_;
};

template <typename Config>
Config read_options(std::string_view layer, const Options& options) {
  Config config;
  OptionReader reader(layer, options);
  config.visit(reader);
  reader.finish();
  return config;
}

template <typename Config>
Options write_options(Config config) {
  OptionWriter writer;
  config.visit(writer);
  return writer.take();
}

}  // namespace braid

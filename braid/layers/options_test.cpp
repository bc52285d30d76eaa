#include "braid/layers/options.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"

namespace braid {
namespace {

struct Config {
  int64_t heads = 0;
  double theta = 0;
  bool gate = true;
  std::string norm;
  void visit(OptionVisitor& v) {
    v.field("heads", heads, int64_t{8});
    v.field("theta", theta, 10000.0);
    v.field("gate", gate, false);
    v.field("norm", norm, "rms");
  }
};

Options make(std::initializer_list<std::pair<const char*, const char*>> items) {
  Options out;
  int column = 5;
  for (const auto& [key, value] : items) out.set(key, value, column++);
  return out;
}

std::string error_of(const Options& options) {
  try {
    read_options<Config>("gqa", options);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

TEST_CASE("options: defaults are filled in and left out again") {
  const Config config = read_options<Config>("gqa", Options{});
  CHECK(config.heads == 8);
  CHECK(config.theta == 10000.0);
  CHECK(config.gate == false);
  CHECK(config.norm == "rms");
  CHECK(write_options(config).empty());
  const Options spelt_out = make({{"heads", "8"}, {"norm", "rms"}});
  CHECK(write_options(read_options<Config>("gqa", spelt_out)).empty());
}

TEST_CASE("options: what is read is written back, in the order of the fields") {
  const Options options =
      make({{"norm", "none"}, {"gate", "true"}, {"theta", "0.1"}, {"heads", "-3"}});
  const Config config = read_options<Config>("gqa", options);
  CHECK(config.heads == -3);
  CHECK(config.theta == 0.1);
  CHECK(config.gate);
  CHECK(config.norm == "none");
  CHECK(write_options(config).str() == "heads=-3,theta=0.1,gate=true,norm=none");
}

TEST_CASE("options: a real field takes a whole number, not the other way round") {
  CHECK(read_options<Config>("gqa", make({{"theta", "500000"}})).theta == 500000.0);
  CHECK(error_of(make({{"heads", "8.0"}})) == "gqa at column 5: heads=8.0 is not a whole number");
}

TEST_CASE("options: numbers are read strictly") {
  for (const char* bad : {"", " 8", "8 ", "+8", "0x8", "8k", "99999999999999999999", "1e3"}) {
    CAPTURE(bad);
    CHECK(error_of(make({{"heads", bad}})).find("is not a whole number") != std::string::npos);
  }
  for (const char* bad : {"", "nan", "inf", "-inf", "1e999", "0.5x", "1,5"}) {
    CAPTURE(bad);
    CHECK(error_of(make({{"theta", bad}})).find("is not a finite number") != std::string::npos);
  }
  for (const char* bad : {"", "1", "yes", "True"}) {
    CAPTURE(bad);
    CHECK(error_of(make({{"gate", bad}})).find("is not true or false") != std::string::npos);
  }
}

TEST_CASE("options: sizes whose products could pass 64 bits are refused") {
  CHECK(error_of(make({{"heads", "4611686018427387904"}})).find("at most 16777216") !=
        std::string::npos);
  CHECK(error_of(make({{"heads", "-16777217"}})).find("at most 16777216") != std::string::npos);
}

TEST_CASE("options: unknown and repeated keys name the key, the column and what is near") {
  CHECK(error_of(make({{"hedas", "8"}})) ==
        "gqa at column 5: unknown option 'hedas'; did you mean 'heads'?");
  CHECK(error_of(make({{"dropout", "0"}})) ==
        "gqa at column 5: unknown option 'dropout'; known: heads, theta, gate, norm");
  CHECK(error_of(make({{"heads", "8"}, {"heads", "9"}})) ==
        "gqa at column 6: option 'heads' is given twice, as 8 and as 9; keep one");
}

TEST_CASE("options: a layer without options says so") {
  struct Empty {
    void visit(OptionVisitor&) {}
  };
  CHECK_THROWS_WITH_AS(read_options<Empty>("relu2", make({{"a", "1"}})),
                       "relu2 at column 5: unknown option 'a'; relu2 takes no options", Error);
}

}  // namespace
}  // namespace braid

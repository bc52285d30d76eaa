#include "braid/report/report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/report/compress.h"
#include "braid/report/svg.h"
#include "braid/report/units.h"

namespace braid {
namespace {

RunReport example() {
  RunReport r;
  r.stack = "2 x (3 x (kda, swiglu), gqa, swiglu)";
  r.residual = "attnres";
  r.width = 192;
  r.parameters = 4300000;
  r.data = "/usr/share/dictd/gcide.dict.dz";
  r.train_bytes = 39 << 20;
  r.held_out_bytes = 1 << 20;
  r.steps = 900;
  r.tokens = 3686400;
  r.seconds = 180.2;
  r.tokens_per_second = 20460;
  r.share_of_peak = 0.47;
  r.machine = "AMD EPYC, 2 threads";
  r.peak_gflops = 234;
  r.read_gbs = 35.4;
  for (int i = 1; i <= 900; ++i) {
    r.training.push_back({i, 1.9 + 6 * std::exp(-i / 40.0) + 0.1 * std::sin(i * 1.7)});
  }
  for (int i = 100; i <= 900; i += 100) r.validation.push_back({i, 1.95 + 6 * std::exp(-i / 40.0)});
  r.auxiliary = {{"balance", 0.0877, 0.03125}};
  r.validation_bpb = 1.953;
  r.gzip_bpb = 3.021;
  r.xz_bpb = 2.411;
  r.prompt = "Braid, v. t. ";
  r.sample = "To <weave> & plait;\n as, to braid the \xff hair.";
  StackCost hybrid{"hybrid", r.stack, {}}, full{"attention everywhere", "8 x (gqa, swiglu)", {}};
  for (int64_t c : {1024, 4096, 16384, 65536, 131072}) {
    hybrid.rows.push_back({c, 0.8 + static_cast<double>(c) * 1e-5, 800000 + 2 * 1536 * c});
    full.rows.push_back({c, 0.7 + static_cast<double>(c) * 4e-5, 8 * 1536 * c});
  }
  r.costs = {hybrid, full};
  return r;
}

std::string repeated(std::string_view piece, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += piece;
  return out;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("compressors: nothing to gain from random bytes, everything from repetition") {
  std::string noise;
  uint64_t x = 88172645463325252u;
  for (int i = 0; i < 3 << 19; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    noise += static_cast<char>(x >> 32);
  }
  CHECK(gzip9_bits_per_byte(noise) == doctest::Approx(8).epsilon(0.01));
  CHECK(xz9_bits_per_byte(noise) == doctest::Approx(8).epsilon(0.01));
  // A a repetition farther apart than gzip's window but not xz's.
  const std::string far = noise.substr(0, 1 << 19) + noise.substr(0, 1 << 19);
  CHECK(gzip9_bits_per_byte(far) > 7.9);
  CHECK(xz9_bits_per_byte(far) == doctest::Approx(4).epsilon(0.01));
  CHECK(gzip9_bits_per_byte(repeated("to braid ", 100000)) < 0.05);
  // `printf a | gzip -9 | wc -c` prints 21, `printf a | xz -9 | wc -c` 60.
  CHECK(gzip9_bits_per_byte("a") == 21 * 8);
  CHECK(xz9_bits_per_byte("a") == 60 * 8);
}

TEST_CASE("numbers as people read them") {
  CHECK(bytes_text(512) == "512 B");
  CHECK(bytes_text(1 << 20) == "1.00 MiB");
  CHECK(bytes_text(1023.9 * 1024) == "1.00 MiB");
  CHECK(bytes_text(48.0 * (1 << 30)) == "48.0 GiB");
  CHECK(count_text(950) == "950");
  CHECK(count_text(4300000) == "4.30M");
  CHECK(context_text(131072) == "128k");
  CHECK(context_text(1 << 20) == "1M");
  CHECK(context_text(1000) == "1000");
  CHECK(duration_text(12.46) == "12.5 s");
  CHECK(duration_text(180.2) == "3 min 0 s");
}

TEST_CASE("the report's JSON holds every number of the table") {
  const RunReport r = example();
  const Json j = Json::parse(report_json(r).dump());
  CHECK(j.at("held_out_bits_per_byte").at("model").as_real() == 1.953);
  CHECK(j.at("held_out_bits_per_byte").at("gzip_9").as_real() == 3.021);
  CHECK(j.at("held_out_bits_per_byte").at("xz_9").as_real() == 2.411);
  CHECK(j.at("loss").at("training").size() == 900);
  CHECK(j.at("loss").at("auxiliary").at("balance").at("last").as_real() == 0.03125);
  const Json& costs = j.at("decode_cost_untrained");
  REQUIRE(costs.size() == 2);
  CHECK(costs.elements()[1].at("rows").elements()[4].at("state_bytes").as_int() ==
        int64_t{8} * 1536 * 131072);
  const std::string table = report_table(r);
  for (const char* part : {"1.953", "3.021", "2.411", "128k", "1.50 GiB", "untrained",
                           "auxiliary losses: balance 0.03125 (at first 0.0877)\n"}) {
    CAPTURE(part);
    CHECK(has(table, part));
  }
}

TEST_CASE("the page is whole, escaped and asks for nothing from outside") {
  const std::string page = report_html(example());
  CHECK(has(page, "To &lt;weave&gt; &amp; plait;"));
  CHECK(has(page, "untrained weights"));
  CHECK(has(page, "balance 0.03125 (at first 0.0877)"));
  for (const char* outside :
       {"http:", "https:", "src=", "url(", "<link", "<script", "nan", "inf\""}) {
    CAPTURE(outside);
    CHECK_FALSE(has(page, outside));
  }
  size_t opened = 0;
  for (size_t at = 0; (at = page.find("<svg", at)) != std::string::npos; ++at) ++opened;
  CHECK(opened == 4);
}

TEST_CASE("a plot of nothing, of one point and of what cannot be drawn is still a plot") {
  Plot plot;
  CHECK(has(svg_plot(plot), "</svg>"));
  plot.x.log = plot.y.log = true;
  plot.series.push_back({.label = "a", .markers = true, .points = {{1024, 5}}, .notes = {}});
  CHECK(has(svg_plot(plot), "<circle"));
  plot.series[0].points = {{0, 1}, {1, NAN}, {2, INFINITY}, {4, 4}, {8, 2}};
  const std::string drawn = svg_plot(plot);
  CHECK_FALSE(has(drawn, "nan"));
  CHECK_FALSE(has(drawn, "inf"));
}

TEST_CASE("a report is written into its folder") {
  char folder[] = "/tmp/braid_report_XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  write_report(example(), folder);
  CHECK(read_file(join_path(folder, "report.html")) == report_html(example()));
  CHECK(Json::parse(read_file(join_path(folder, "report.json"))) ==
        Json::parse(report_json(example()).dump()));
  remove_folder(folder);
}

TEST_CASE("a run's log is its curves and speeds; a line that is none is named") {
  const std::string log =
      R"({"event":"step","step":1,"bpb":3,"tokens":10,"seconds":0.5,"gflops":40,"auxiliary":{"balance":2}})"
      "\n"
      R"({"event":"step","step":2,"bpb":null,"tokens":10,"seconds":9,"gflops":40})"
      "\n"
      R"({"event":"validation","step":2,"bpb":2.5,"tokens":64})"
      "\n";
  RunReport r;
  r.peak_gflops = 80;
  read_training_log(log, r);
  REQUIRE(r.training.size() == 1);
  CHECK(r.training[0].bits_per_byte == 3);
  REQUIRE(r.validation.size() == 1);
  CHECK(r.validation[0].step == 2);
  CHECK(r.tokens_per_second == 20);
  CHECK(r.share_of_peak == 0.5);
  CHECK(r.auxiliary.at(0).first == 2);
  CHECK_THROWS_WITH_AS(read_training_log(log + "{\"step\":3}\n", r), doctest::Contains("line 4: "),
                       Error);
}

}  // namespace
}  // namespace braid

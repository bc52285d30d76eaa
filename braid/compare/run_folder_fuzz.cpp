// What is read back from the folders of runs and comparisons: log.jsonl and final.json, as compare
// and report read them and as a resumed run cuts them; comparison.json; TensorBoard's events. Any
// bytes are Error(kBadInput), or what is made of them can be printed, and a log that goes on keeps
// a beginning of what was there.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/compare/compare_report.h"
#include "braid/compare/identity.h"
#include "braid/report/report.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"
#include "braid/train/events.h"

namespace braid {
namespace {

const testing::FuzzFolder& folder() {
  static const testing::FuzzFolder one("run-folder");
  return one;
}

// A log and, behind a NUL, a final.json: two stacks that both ran so.
void compare_runs(std::string_view text) {
  const size_t cut = text.find('\0');
  Comparison c;
  c.config.seeds = 1;
  for (const char* label : {"A", "B"}) {
    ComparedStack s;
    s.label = label;
    s.parameters = s.active = 10;
    s.step_flops = 1e6;
    s.budget.steps = 10;
    ComparedRun r = read_run_log(text.substr(0, cut));
    if (cut != text.npos) read_run_end(text.substr(cut + 1), r);
    for (CurvePoint& p : r.curve) p.number = p.step;
    r.stack = c.config.stacks.size();
    c.config.stacks.push_back(std::move(s));
    c.runs.push_back(std::move(r));
  }
  Json::parse(compare_json(c).dump());
  compare_table(c);
  compare_html(c);
}

void report_run(std::string_view log) {
  RunReport r;
  r.peak_gflops = 100;
  read_training_log(log, r);
  BRAID_CHECK(r.validation.size() + r.training.size() <= log.size());
  Json::parse(report_json(r).dump());
  report_table(r);
  report_html(r);
}

void read_comparison(std::string_view text) {
  write_file(folder() / "comparison.json", text);
  comparison_command(folder().path());
  const Json there = Json::parse(text);
  BRAID_CHECK(differences(there, there).empty());
  const Json other = Json::object({{"seeds", 3}, {"stacks", Json::object({{"A", "gqa"}})}});
  BRAID_CHECK(differences(there, other).empty() == (there == other));
  refuse_other_folder(folder().path());
}

// Opening at a step keeps a beginning, or begins anew where a log has a head; what is then written
// can be kept too.
template <typename Open, typename Write>
void go_on(const std::string& path, std::string_view text, int64_t step, bool has_head, Open open,
           Write write) {
  write_file(path, text);
  try {
    open(step);
  } catch (const Error&) {
    BRAID_CHECK(read_file(path) == text);
    throw;
  }
  const std::string kept = read_file(path);
  BRAID_CHECK(text.starts_with(kept) || has_head);
  write(std::max<int64_t>(step, 0));
  const std::string longer = read_file(path);
  BRAID_CHECK(longer.size() > kept.size() && longer.starts_with(kept));
  open(INT64_MAX);
  BRAID_CHECK(read_file(path) == longer);
}

void log_goes_on(std::string_view text, int64_t step) {
  const std::string path = folder() / "log.jsonl";
  go_on(
      path, text, step, false, [&](int64_t keep) { JsonLog(path, keep); },
      [&](int64_t keep) {
        JsonLog(path, keep).write(Json::object({{"step", keep}}));
      });
}

void events_go_on(std::string_view text, int64_t step) {
  const Scalar loss[] = {{"loss", 1.5}};
  // Half of the inputs are payloads, framed; checksums are not to be found by chance.
  std::string framed;
  if (text.starts_with("p")) {
    for (text.remove_prefix(1); !text.empty();) {
      const size_t n = std::min<size_t>(static_cast<unsigned char>(text[0]), text.size() - 1);
      framed += tfrecord(text.substr(1, n));
      text.remove_prefix(1 + n);
    }
    text = framed;
  }
  go_on(
      folder() / "events.out.tfevents.braid", text, step, true,
      [&](int64_t keep) { EventLog(folder().path(), keep); },
      [&](int64_t keep) { EventLog(folder().path(), keep).write(keep, loss); });
}

void read(uint8_t what, std::string_view text) {
  const auto step = static_cast<int64_t>(what / 5) - 1;
  switch (what % 5) {
    case 0:
      return compare_runs(text);
    case 1:
      return report_run(text);
    case 2:
      return read_comparison(text);
    case 3:
      return log_goes_on(text, step);
    case 4:
      return events_go_on(text, step);
  }
}

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    braid::read(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  } catch (const braid::Error& e) {
    braid::testing::expect(e);
  }
  return 0;
}

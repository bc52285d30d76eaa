#pragma once
// The report of a training run: a table for the terminal, report.json, and one report.html that
// needs nothing else.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/json.h"

namespace braid {

struct LossPoint {
  int64_t step = 0;
  double bits_per_byte = 0;
};

// A loss that joined the model's own in training ("balance"), with its coefficient.
struct AuxiliaryLoss {
  std::string name;
  double first = 0, last = 0;  // of the first and the last step that had it
};

// What decoding one more token costs after `context` tokens.
struct ContextCost {
  int64_t context = 0;
  double ms = 0;  // median
  int64_t state_bytes = 0;
};

struct StackCost {
  std::string label;  // "hybrid", "attention everywhere"
  std::string stack;  // the expression
  std::vector<ContextCost> rows;
};

struct RunReport {
  std::string stack;     // canonical expression
  std::string residual;  // "attnres"
  int64_t width = 0;
  int64_t parameters = 0;

  std::string data;  // path
  int64_t train_bytes = 0;
  int64_t held_out_bytes = 0;

  int64_t steps = 0;
  int64_t tokens = 0;
  double seconds = 0;
  double tokens_per_second = 0;
  double share_of_peak = 0;  // model FLOPs only; 0 = not measured

  std::string machine;  // processor and threads
  double peak_gflops = 0;
  double read_gbs = 0;

  std::vector<LossPoint> training;    // may be long: plotted thinned
  std::vector<LossPoint> validation;  // during the run
  std::vector<AuxiliaryLoss> auxiliary;
  // On the same held-out text.
  double validation_bpb = 0;
  double gzip_bpb = 0;
  double xz_bpb = 0;

  std::string prompt;
  std::string sample;  // what the model wrote after it; any bytes

  std::vector<StackCost> costs;  // of untrained weights: contents do not change the cost
};

// The loss curves and speeds of a run whose log.jsonl is `log`; peak_gflops is set. Throws
// Error(kBadInput) with the number of a line that is not one of a log.
void read_training_log(std::string_view log, RunReport& report);

// "balance 0.0312 (at first 0.0877), index 1.2 (at first 3.1)"; empty where there were none.
std::string auxiliary_text(const RunReport& report);
Json report_json(const RunReport& report);
// About 20 lines, 80 columns, with a newline at the end; no colour.
std::string report_table(const RunReport& report);
std::string report_html(const RunReport& report);

// Writes report.json and report.html into `folder`, each whole or not at all.
void write_report(const RunReport& report, const std::string& folder);

}  // namespace braid

#include "braid/train/run_log.h"

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/train/run.h"

namespace braid {
namespace {

// Bytes of the log up to the last whole line of a step that is not run again.
uint64_t kept_bytes(const std::string& path, int64_t resumed_step) {
  if (resumed_step == 0 || !path_exists(path)) return 0;
  const std::string text = read_file(path);
  size_t keep = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // cut by a kill
    const Json line = Json::parse(std::string_view(text).substr(at, end - at));
    if (line.at("step").as_int() > resumed_step) break;
    at = keep = end + 1;
  }
  return keep;
}

std::string log_path(const std::string& run_folder) { return join_path(run_folder, "log.jsonl"); }

}  // namespace

RunLog::RunLog(const std::string& run_folder, int64_t resumed_step)
    : file_(log_path(run_folder), kept_bytes(log_path(run_folder), resumed_step)) {}

void RunLog::step(const RunProgress& p, double seconds, int64_t targets) {
  const Json line = Json::object({{"event", "step"},
                                  {"step", p.step},
                                  {"loss", p.loss},
                                  {"bpb", p.loss / std::log(2.0)},
                                  {"grad_norm", p.grad_norm},
                                  {"lr_scale", p.lr_scale},
                                  {"applied", p.applied},
                                  {"tokens", targets},
                                  {"seconds", seconds},
                                  {"gflops", p.gflops}});
  file_.write(line.dump() + "\n");
}

void RunLog::evaluation(const RunProgress& p, const Evaluation& e) {
  const Json line = Json::object({{"event", "validation"},
                                  {"step", p.step},
                                  {"bpb", e.bits_per_target()},
                                  {"tokens", e.targets}});
  file_.write(line.dump() + "\n");
}

}  // namespace braid

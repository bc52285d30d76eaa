#pragma once
// What a run writes about itself: RUN/log.jsonl, one object a line, and TensorBoard scalars.

#include <memory>
#include <string>

#include "braid/base/file.h"
#include "braid/train/trainer.h"

namespace braid {

struct RunProgress;

class RunLog {
 public:
  // Continues the log of an earlier session: lines of steps after `resumed_step` are cut off, for
  // they will be run again.
  RunLog(const std::string& run_folder, int64_t resumed_step);
  void step(const RunProgress& progress, double seconds, int64_t targets);
  void evaluation(const RunProgress& progress, const Evaluation& evaluation);

 private:
  AppendFile file_;
};

}  // namespace braid

#pragma once
// What a run writes about itself: RUN/log.jsonl, one object a line, and RUN/events.out.tfevents.*,
// for TensorBoard. Lines of steps after the resumed one are cut off, for they are run again.

#include <string>

#include "braid/train/events.h"
#include "braid/train/trainer.h"

namespace braid {

struct RunProgress;

// {"balance": 0.012}
Json losses_json(const Tape::Losses& losses);

class RunLog {
 public:
  RunLog(const std::string& run_folder, int64_t resumed_step);
  void step(const RunProgress& progress, double seconds, int64_t targets);
  void evaluation(const RunProgress& progress, const Evaluation& evaluation);

 private:
  JsonLog lines_;
  EventLog events_;
};

}  // namespace braid

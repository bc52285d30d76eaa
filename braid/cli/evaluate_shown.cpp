#include "braid/cli/evaluate_shown.h"

#include "braid/cli/progress.h"

namespace braid {

Evaluation evaluate_shown(const Context& ctx, Model& model, const std::vector<TrainBatch>& windows,
                          const std::string& what) {
  uint64_t all = 0, done = 0;
  for (const TrainBatch& w : windows) all += w.inputs.size();
  WorkProgress work;
  const WorkProgress::Tick tick = work.counts(what, "tokens");
  Evaluation sum;
  for (const TrainBatch& w : windows) {
    sum.add(evaluate(ctx, model, {&w, 1}));
    done += w.inputs.size();
    tick(done, all);
  }
  work.finish();
  return sum;
}

}  // namespace braid

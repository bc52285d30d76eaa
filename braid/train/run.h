#pragma once
// A training run in a folder: starts, resumes, saves, and ends when its budget is spent or somebody
// asks it to.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/stack/model.h"
#include "braid/train/data.h"
#include "braid/train/optim.h"
#include "braid/train/schedule.h"
#include "braid/train/trainer.h"

namespace braid {

class RunLog;

struct RunConfig {
  std::string out;   // the run's folder
  std::string data;  // file or folder of text
  bool data_binary = false;
  DataTokenizer tokenizer;  // kept in every checkpoint; none = bytes
  ModelSettings model;
  OptimConfig optim;
  GuardConfig guard;
  Schedule schedule;
  Budget budget;
  int64_t batch = 16;
  int64_t seq_len = 512;
  int64_t accumulate = 1;
  bool recompute = false;
  int64_t save_every = 0;  // steps; 0 = every save_seconds
  double save_seconds = 60;
  int64_t keep = 3;             // checkpoints kept
  int64_t eval_tokens = 65536;  // of the held-out text, evaluated at every save
  Json command =
      Json::object();  // stored in train/state.json as it is, for whoever resumes the run
};

struct RunProgress {
  int64_t step = 0;
  int64_t tokens = 0;      // targets trained on, all sessions together
  double seconds = 0;      // trained, all sessions together
  double progress = 0;     // share of the budget spent
  double loss = 0;         // nats per token, of the step
  double smooth_loss = 0;  // moving average
  double bpb = 0;          // bits per byte of text, of the step
  double smooth_bpb = 0;   // of smooth_loss
  double tokens_per_second = 0;
  double gflops = 0;       // products of the step over its time
  Tape::Losses auxiliary;  // of the step, by name; not part of `loss`
  double grad_norm = 0;
  double lr_scale = 0;
  bool applied = true;
};

// What a run tells whoever watches it; every member may be empty.
struct RunWatcher {
  std::function<void(const RunProgress&)> on_step;
  std::function<void(const RunProgress&, const Evaluation&)> on_evaluation;
  std::function<void(Model&, const RunProgress&)> on_sample;  // time to show what the model writes
  std::function<void(Model&)> on_fresh;  // before the first step of a run that is not resumed
  std::function<void(const std::string&)> on_message;  // "resumed from step 40", a skipped step
  std::function<bool()> should_stop;
};

struct RunSummary {
  RunProgress last;
  Evaluation validation;  // on the whole held-out slice; empty when interrupted
  bool interrupted = false;
  bool resumed = false;
};

// The data of a run; the held-out slice is the same for every seed.
TrainData open_run_data(const std::string& cache_folder, const std::string& path, bool binary,
                        uint64_t seed, const DataTokenizer& tokenizer = {});
// Throws Error(kUsage) for a model whose vocabulary is too small, with both numbers.
void check_vocabulary(const DataTokenizer& tokenizer, int64_t vocab);
// Where a run keeps its unpacked data.
std::string run_data_cache(const std::string& run_folder);

// Throws Error(kUsage) for a folder with files that none of the patterns `own` fits: the names that
// a `what` leaves when it is killed before it has begun. Hidden files are nobody's work.
void refuse_other_files(const std::string& folder, const char* what,
                        const std::vector<std::string>& own);
// The same for a folder that holds no run.
void require_run_folder(const std::string& folder);

// A run that its owner advances step by step, also in turn with others; run_training() takes one to
// its end.
class TrainingRun {
 public:
  // The first three outlive it; data is that of the configuration, in the order of its seed.
  TrainingRun(const Context& ctx, const RunConfig& config, const RunWatcher& watcher,
              TrainData data);
  ~TrainingRun();
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  // Called once, before anything below: takes up the newest checkpoint of the folder, true when
  // there is one, and opens the logs, cut at its step. Throws Error(kUsage) where the checkpoint is
  // of another run.
  bool begin();
  const RunProgress& at() const { return at_; }
  bool finished() const;  // the budget is spent
  void step();
  bool save_due() const;  // by save_every or save_seconds
  void save();            // nothing where this step is saved already
  // Of the first `tokens` held-out ones; nullopt when it was told to stop on the way.
  std::optional<Evaluation> evaluate_held_out(int64_t tokens);
  void log_evaluation(const Evaluation& evaluation);
  Model& model() { return model_; }
  const TrainData& data() const { return data_; }

 private:
  Context with_counters(Context ctx);
  bool stop_wanted() const { return watcher_.should_stop && watcher_.should_stop(); }
  void check_same_model(const std::string& checkpoint) const;

  const RunConfig& config_;
  const RunWatcher& watcher_;
  Counters counters_;
  Context ctx_;
  TrainData data_;
  Model model_;
  Trainer trainer_;
  std::unique_ptr<RunLog> log_;
  RunProgress at_;
  int64_t saved_step_ = 0;
  double saved_seconds_ = 0;
};

RunSummary run_training(const Context& ctx, const RunConfig& config, const RunWatcher& watcher);

}  // namespace braid

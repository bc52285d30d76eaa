#include "braid/train/run.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/train/checkpoint.h"
#include "braid/train/data.h"
#include "braid/train/data_source.h"
#include "braid/train/run_log.h"

namespace braid {
namespace {

constexpr double kSmoothing = 0.95;

const char* optimizer_name(const RunConfig& config) {
  return config.optim.use_muon ? "muon" : "adamw";
}

std::string joined(const std::vector<std::string>& patterns) {
  std::string all;
  for (const std::string& one : patterns) all += (all.empty() ? "" : ",") + one;
  return all;
}

// What a checkpoint stores beside weights and optimizer.
Json position_json(const RunConfig& config, const RunProgress& p, const Trainer& trainer,
                   const TrainData& data) {
  Json norms = Json::array();
  for (const double n : trainer.recent_norms()) norms.push(n);
  return Json::object({{"step", p.step},
                       {"tokens", p.tokens},
                       {"seconds", p.seconds},
                       {"smooth_loss", p.smooth_loss},
                       {"recent_norms", norms},
                       {"tokens_per_second", p.tokens_per_second},
                       {"gflops", p.gflops},
                       {"data_path", config.data},
                       {"data_binary", config.data_binary},
                       {"batch", config.batch},
                       {"seq_len", config.seq_len},
                       {"accumulate", config.accumulate},
                       {"optimizer", optimizer_name(config)},
                       {"train_only", joined(config.optim.trained.only)},
                       {"freeze", joined(config.optim.trained.frozen)},
                       {"command", config.command},
                       {"data", data.cursor(p.step)}});
}

// The cursor counts steps: with other steps the run would see other data than if it had never
// stopped.
void check_same_run(const Json& state, const RunConfig& config) {
  const auto check = [&](const char* key, const char* flag, const Json& now) {
    const Json* saved = state.find(key);  // runs of before these flags froze nothing
    const Json begun = saved == nullptr && now.is_string() ? Json("") : state.at(key);
    if (begun == now) return;
    throw Error(
        ErrorKind::kUsage,
        format("{} holds a run begun with {} {}, but now it is {}: resume with the same, or use "
               "another --out",
               config.out, flag, begun.dump(), now.dump()));
  };
  check("batch", "--batch", config.batch);
  check("seq_len", "--seq-len", config.seq_len);
  check("accumulate", "--accumulate", config.accumulate);
  check("optimizer", "--optimizer", optimizer_name(config));
  check("train_only", "--train-only", joined(config.optim.trained.only));
  check("freeze", "--freeze", joined(config.optim.trained.frozen));
}

void read_position(const Json& json, const TrainData& data, RunProgress& p, Trainer& trainer) {
  p.step = data.resume(json.at("data"));
  p.tokens = json.at("tokens").as_int();
  p.seconds = json.at("seconds").as_real();
  p.smooth_loss = json.at("smooth_loss").as_real();
  std::vector<double> norms;
  for (const Json& n : json.at("recent_norms").elements()) norms.push_back(n.as_real());
  trainer.set_recent_norms(std::move(norms));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// Both are resolved, so that they print the same keys.
void check_same_settings(const std::string& out, const ModelSettings& saved,
                         const ModelSettings& wanted) {
  const std::vector<std::string> had = lines_of(print_settings(saved));
  const std::vector<std::string> want = lines_of(print_settings(wanted));
  BRAID_CHECK(had.size() == want.size());
  std::string there, here;
  for (size_t i = 0; i < had.size(); ++i) {
    if (had[i] == want[i]) continue;
    there += (there.empty() ? "" : ", ") + had[i];
    here += (here.empty() ? "" : ", ") + want[i];
  }
  if (here.empty()) return;
  throw Error(
      ErrorKind::kUsage,
      format("{} holds a run of another model: it has {}, but {} was asked for; use another --out "
             "or the same model",
             out, there, here));
}

// What is wrong whatever the text is said before it is unpacked.
void check_model(const RunConfig& config) {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  Model shapes(dry, config.model, Model::Fill::kDeferred);
  check_optim(config.optim);
  freeze_parameters(shapes.parameters(), config.optim.trained);
  check_vocabulary(config.tokenizer, config.model.vocab);
}

// The folder of a run, removed again where it is new, this process's and the run is refused before
// it begins.
class RunFolder {
 public:
  explicit RunFolder(const std::string& path) : path_(path), missing_(!path_exists(path)) {
    make_folders(path);
  }
  ~RunFolder() {
    if (!fresh_) return;
    try {
      remove_folder(path_);
    } catch (const Error&) {  // what refused the run is what is said
    }
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  void locked() { fresh_ = missing_; }
  void keep() { fresh_ = false; }

 private:
  std::string path_;
  bool missing_, fresh_ = false;
};

// Between steps: a checkpoint first, then a look at the model.
void save_and_look(TrainingRun& run, const Context& ctx, const RunConfig& config,
                   const RunWatcher& watcher) {
  run.save();
  if (const auto e = run.evaluate_held_out(config.eval_tokens)) run.log_evaluation(*e);
  if (watcher.on_sample) watcher.on_sample(run.model(), run.at());
  ctx.arena->trim();
}

}  // namespace

TrainingRun::TrainingRun(const Context& ctx, const RunConfig& config, const RunWatcher& watcher,
                         TrainData data)
    : config_(config),
      watcher_(watcher),
      ctx_(with_counters(ctx)),
      data_(std::move(data)),
      model_(ctx_, config.model),
      trainer_(ctx_, model_, config.optim, config.guard) {
  model_.set_recompute(config.recompute);
}

TrainingRun::~TrainingRun() = default;

Context TrainingRun::with_counters(Context ctx) {
  ctx.counters = &counters_;
  return ctx;
}

bool TrainingRun::begin() {
  const std::optional<Checkpoint> found = find_checkpoint(config_.out, watcher_.on_message);
  if (found) {
    check_same_model(found->path);
    check_same_run(checkpoint_state(*found), config_);
    const Json state = load_checkpoint(ctx_, *found, model_.parameters(), trainer_.optimizer());
    read_position(state, data_, at_, trainer_);
    saved_seconds_ = at_.seconds;
    saved_step_ = at_.step;
  }
  log_ = std::make_unique<RunLog>(config_.out, at_.step);
  return found.has_value();
}

void TrainingRun::check_same_model(const std::string& checkpoint) const {
  const std::string path = join_path(checkpoint, "model.toml");
  check_same_settings(config_.out, resolved(parse_settings(read_file(path, size_t{1} << 20), path)),
                      model_.settings());
}

bool TrainingRun::finished() const {
  return config_.budget.spent(at_.step, at_.tokens, at_.seconds);
}

void TrainingRun::step() {
  const double start = now_seconds();
  std::vector<TrainBatch> micro;
  for (int64_t i = 0; i < config_.accumulate; ++i) {
    micro.push_back(data_.batch(at_.step * config_.accumulate + i, config_.batch, config_.seq_len));
  }
  at_.progress = config_.budget.progress(at_.step, at_.tokens, at_.seconds);
  at_.lr_scale = config_.schedule.lr_scale(at_.step, at_.progress);
  counters_.product_flops = 0;
  const StepResult r = trainer_.step(ctx_, micro, at_.lr_scale);
  const double took = now_seconds() - start;
  ++at_.step;
  at_.tokens += r.targets;
  at_.seconds += took;
  at_.loss = r.loss;
  at_.auxiliary = r.auxiliary;
  at_.grad_norm = r.grad_norm;
  at_.applied = r.applied;
  if (r.applied) {  // the loss of a step left out may be NaN, which would stay for ever
    at_.smooth_loss =
        at_.smooth_loss == 0 ? r.loss : kSmoothing * at_.smooth_loss + (1 - kSmoothing) * r.loss;
  }
  at_.bpb = r.loss * static_cast<double>(r.targets) /
            (std::log(2.0) * static_cast<double>(std::max<int64_t>(1, r.target_bytes)));
  at_.smooth_bpb = at_.smooth_loss / (std::log(2.0) * data_.bytes_per_token());
  at_.tokens_per_second = static_cast<double>(r.targets) / took;
  at_.gflops = counters_.product_flops / took * 1e-9;
  log_->step(at_, took, r.targets);
  if (at_.step == 1 && r.grad_norm == 0 && watcher_.on_message)
    watcher_.on_message("the gradient of all that is trained is 0: nothing will be learnt");
  if (!r.applied && watcher_.on_message) {
    watcher_.on_message(format("step {} left out: loss {:.4g}, gradient norm {:.4g}", at_.step,
                               r.loss, r.grad_norm));
  }
  if (watcher_.on_step) watcher_.on_step(at_);
}

bool TrainingRun::save_due() const {
  return config_.save_every > 0 ? at_.step % config_.save_every == 0
                                : at_.seconds - saved_seconds_ >= config_.save_seconds;
}

void TrainingRun::save() {
  if (at_.step == saved_step_) return;
  save_checkpoint(config_.out, at_.step, model_.settings(), model_.parameters(),
                  trainer_.optimizer(), position_json(config_, at_, trainer_, data_), config_.keep,
                  config_.tokenizer.files, config_.tokenizer.beside);
  saved_step_ = at_.step;
  saved_seconds_ = at_.seconds;
}

// Blocks kept for the training step are given back first, and evaluation's afterwards: resident
// memory is the larger of the two, not their sum.
std::optional<Evaluation> TrainingRun::evaluate_held_out(int64_t tokens) {
  ctx_.arena->trim();
  Evaluation sum;
  for (const TrainBatch& window : data_.held_out(config_.batch, config_.seq_len, tokens)) {
    if (stop_wanted()) return std::nullopt;
    sum.add(evaluate(ctx_, model_, {&window, 1}));
  }
  return sum;
}

void TrainingRun::log_evaluation(const Evaluation& e) {
  log_->evaluation(at_, e);
  if (watcher_.on_evaluation) watcher_.on_evaluation(at_, e);
}

void check_vocabulary(const DataTokenizer& tokenizer, int64_t vocab) {
  const int64_t tokens = tokenizer.present() ? tokenizer.tokenizer->vocab_size() : 256;
  if (tokens <= vocab) return;
  throw Error(ErrorKind::kUsage,
              format("the tokenizer has {} tokens, the model's vocabulary {}", tokens, vocab));
}

TrainData open_run_data(const std::string& cache_folder, const std::string& path, bool binary,
                        uint64_t seed, const DataTokenizer& tokenizer) {
  DataOptions d;
  d.path = path;
  d.allow_binary = binary;
  d.cache_folder = cache_folder;
  d.seed = seed;
  d.tokenizer = tokenizer;
  return TrainData::open(d);
}

void refuse_other_files(const std::string& folder, const char* what,
                        const std::vector<std::string>& own) {
  if (!path_exists(folder)) return;
  if (!is_folder(folder)) throw Error(ErrorKind::kUsage, format("{} is a file", folder));
  for (const std::string& name : list_folder(folder)) {
    if (name.starts_with('.')) continue;
    if (std::any_of(own.begin(), own.end(),
                    [&](const std::string& pattern) { return matches_pattern(name, pattern); }))
      continue;
    throw Error(ErrorKind::kUsage,
                format("{} is not empty (it holds {}) and holds no {}; name another folder with "
                       "--out",
                       folder, printable(name, 100), what));
  }
}

void require_run_folder(const std::string& folder) {
  if (has_checkpoints(folder)) return;
  refuse_other_files(
      folder, "run",
      {"data", "checkpoints", "log.jsonl", "events.out.tfevents.braid", "latest", "*.tmp-*"});
}

std::string run_data_cache(const std::string& run_folder) { return join_path(run_folder, "data"); }

RunSummary run_training(const Context& ctx, const RunConfig& config, const RunWatcher& watcher) {
  check_model(config);
  list_sources(config.data);  // a wrong path is said before there is a folder
  RunFolder folder(config.out);
  const FolderLock lock(config.out);
  folder.locked();
  TrainingRun run(ctx, config, watcher,
                  open_run_data(run_data_cache(config.out), config.data, config.data_binary,
                                config.model.seed, config.tokenizer));
  const auto message = [&](const std::string& text) {
    if (watcher.on_message) watcher.on_message(text);
  };
  if (const std::string lossy = run.data().lossy(); !lossy.empty()) message(lossy);
  RunSummary summary;
  summary.resumed = run.begin();
  if (!summary.resumed && watcher.on_fresh) watcher.on_fresh(run.model());
  if (summary.resumed) {
    message(format("resumed from step {} of {} ({:.0f} s trained)", run.at().step, config.out,
                   run.at().seconds));
    if (run.finished()) {
      message(
          "its budget is already spent, so nothing is trained; give a larger --steps, --tokens or "
          "--time");
    }
  }
  run.data().windows_per_epoch(config.seq_len);  // a text that is too short is refused
  folder.keep();
  while (!run.finished()) {
    summary.interrupted = watcher.should_stop && watcher.should_stop();
    if (summary.interrupted) break;
    run.step();
    if (run.save_due()) save_and_look(run, ctx, config, watcher);
  }
  run.save();
  if (!summary.interrupted && run.at().step <= config.schedule.warmup_steps) {
    message(
        format("only {} steps were made and the first {} are warm-up (--warmup): this model "
               "has hardly been trained",
               run.at().step, config.schedule.warmup_steps));
  }
  if (!summary.interrupted) {
    const auto validation = run.evaluate_held_out(INT64_MAX);
    summary.interrupted = !validation;
    if (validation) {
      summary.validation = *validation;
      run.log_evaluation(*validation);
    }
  }
  summary.last = run.at();
  return summary;
}

}  // namespace braid

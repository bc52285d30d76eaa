#include "braid/compare/compare.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/compare/identity.h"
#include "braid/train/data_source.h"

namespace braid {
namespace {

constexpr double kTurnSeconds = 5;  // at most, where the budget is time

// One stack with one seed.
struct Member {
  size_t stack = 0;
  uint64_t seed = 0;
  std::string name;  // in messages
  RunConfig config;
  RunWatcher watcher;
  std::unique_ptr<TrainingRun> run;  // null: not begun, or done
  bool done = false;
  int64_t points = 0;  // of the curve, evaluated
};

std::string final_path(const Member& m) { return join_path(m.config.out, "final.json"); }

Json final_json(const TrainingRun& run, const Evaluation& e) {
  return Json::object(
      {{"step", run.at().step}, {"nats", e.nats}, {"targets", e.targets}, {"bytes", e.bytes}});
}

ComparedRun logged(const Member& m) {
  const std::string path = join_path(m.config.out, "log.jsonl");
  try {
    return read_run_log(read_file(path));
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

// What a run came to at its end.
void read_final(const Member& m, ComparedRun& r) {
  const std::string path = final_path(m);
  try {
    read_run_end(read_file(path, size_t{1} << 20), r);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

class Training {
 public:
  Training(const Context& ctx, const CompareConfig& config, const TrainData& data,
           const CompareWatcher& watcher)
      : ctx_(ctx), config_(config), data_(data), watcher_(watcher) {
    for (size_t s = 0; s < config.stacks.size(); ++s) {
      for (int64_t i = 0; i < config.seeds; ++i)
        add_member(s, config.first_seed + static_cast<uint64_t>(i));
    }
    rounds_ = rounds_of(config);
  }

  // False when told to stop.
  bool train() {
    begin_all();
    start_ = saved_ = now_seconds();
    done_before_ = share_done();
    for (round_ = 1; round_ <= rounds_; ++round_) {
      // A drift within a round cancels over two of them.
      const size_t n = members_.size();
      for (size_t i = 0; i < n; ++i) {
        Member& m = *members_[round_ % 2 == 1 ? i : n - 1 - i];
        if (!m.run) continue;
        if (!turn(m)) {
          save_all();
          return false;
        }
      }
      if (save_due()) save_all();
    }
    return true;
  }

  std::vector<ComparedRun> results() const {
    std::vector<ComparedRun> runs;
    for (const auto& m : members_) {
      ComparedRun r = logged(*m);
      for (CurvePoint& p : r.curve) p.number = points_at(*m, p.step, p.seconds);
      r.stack = m->stack;
      r.seed = m->seed;
      read_final(*m, r);
      runs.push_back(std::move(r));
    }
    return runs;
  }

 private:
  // Time is cut finer where it is short, so that turns are many.
  static int64_t rounds_of(const CompareConfig& c) {
    const Budget& first = c.stacks[0].budget;
    if (first.steps > 0) return (first.steps + c.turn - 1) / c.turn;
    return std::max(c.points, static_cast<int64_t>(std::ceil(first.seconds / kTurnSeconds)));
  }

  void add_member(size_t stack, uint64_t seed) {
    auto m = std::make_unique<Member>();
    const ComparedStack& s = config_.stacks[stack];
    m->stack = stack;
    m->seed = seed;
    m->name = format("{}, seed {}", s.label, seed);
    m->config = config_.run;
    m->config.model = s.settings;
    m->config.model.seed = seed;
    m->config.budget = s.budget;
    m->config.out = join_path(config_.out, format("runs/{}-seed{}", s.label, seed));
    m->config.keep = 1;
    m->watcher.should_stop = watcher_.should_stop;
    Member* const raw = m.get();
    m->watcher.on_message = [this, raw](const std::string& text) {
      if (watcher_.on_message) watcher_.on_message(format("{}: {}", raw->name, text));
    };
    m->watcher.on_step = [this, raw](const RunProgress& p) {
      if (watcher_.on_step) watcher_.on_step(progress(*raw), p);
    };
    m->watcher.on_evaluation = [this, raw](const RunProgress& p, const Evaluation& e) {
      if (watcher_.on_evaluation) watcher_.on_evaluation(raw->stack, raw->seed, p, e);
    };
    members_.push_back(std::move(m));
  }

  void begin_all() {
    int64_t resumed = 0, done = 0;
    for (const auto& m : members_) {
      m->done = path_exists(final_path(*m));
      done += m->done;
      if (m->done) continue;
      make_folders(m->config.out);
      m->run = std::make_unique<TrainingRun>(ctx_, m->config, m->watcher, data_.with_seed(m->seed));
      resumed += m->run->begin();
      if (m->run->at().step == 0) continue;
      const ComparedRun so_far = logged(*m);
      if (so_far.curve.empty()) continue;
      const CurvePoint& last = so_far.curve.back();
      m->points = points_at(*m, last.step, last.seconds);
    }
    if (resumed + done > 0 && watcher_.on_message) {
      watcher_.on_message(format("resumed: {} of {} runs are done, {} are on their way", done,
                                 members_.size(), resumed));
    }
  }

  // How many evaluations a run has behind it there.
  int64_t points_at(const Member& m, int64_t step, double seconds) const {
    const double progress = m.config.budget.progress(step, 0, seconds);
    return static_cast<int64_t>(
        std::floor(static_cast<double>(config_.points) * std::min(1.0, progress) + 1e-9));
  }

  // Up to the share of the budget that the round ends with; false when told to stop.
  bool turn(Member& m) {
    try {
      const double share = static_cast<double>(round_) / static_cast<double>(rounds_);
      do {
        if (!evaluate_if_due(m)) return false;
        const RunProgress& at = m.run->at();
        const double progress = m.config.budget.progress(at.step, 0, at.seconds);
        if (m.run->finished()) return finish(m);
        if (progress >= share) break;
        if (watcher_.should_stop && watcher_.should_stop()) return false;
        m.run->step();
      } while (true);
    } catch (const DivergedError& e) {
      give_up(m, e.what());
    } catch (Error& e) {
      throw e.add_context(m.name);
    }
    ctx_.arena->trim();
    return true;
  }

  // A run that diverged is a result too; the others go on.
  void give_up(Member& m, const char* why) {
    Json last = final_json(*m.run, {});
    last.set("diverged", why);
    write_file(final_path(m), last.dump_pretty());
    m.watcher.on_message(why);
    m.run.reset();
    m.done = true;
  }

  bool evaluate_if_due(Member& m) {
    const int64_t due = points_at(m, m.run->at().step, m.run->at().seconds);
    if (due <= m.points) return true;
    const std::optional<Evaluation> e = m.run->evaluate_held_out(config_.run.eval_tokens);
    if (!e) return false;
    m.run->log_evaluation(*e);
    m.points = due;
    return true;
  }

  bool finish(Member& m) {
    m.run->save();
    const std::optional<Evaluation> e = m.run->evaluate_held_out(INT64_MAX);
    if (!e) return false;
    write_file(final_path(m), final_json(*m.run, *e).dump_pretty());
    m.run.reset();
    m.done = true;
    return true;
  }

  bool save_due() const {
    return config_.save_every > 0 ? round_ % config_.save_every == 0
                                  : now_seconds() - saved_ >= config_.run.save_seconds;
  }

  void save_all() {
    for (const auto& m : members_) {
      if (m->run) m->run->save();
    }
    saved_ = now_seconds();
  }

  double share_done() const {
    double sum = 0;
    for (const auto& m : members_) {
      if (m->done) {
        sum += 1;
      } else {
        const RunProgress& at = m->run->at();
        sum += std::min(1.0, m->config.budget.progress(at.step, 0, at.seconds));
      }
    }
    return sum / static_cast<double>(members_.size());
  }

  CompareProgress progress(const Member& m) const {
    CompareProgress p;
    p.stack = m.stack;
    p.seed = m.seed;
    p.round = round_;
    p.rounds = rounds_;
    p.done = share_done();
    p.eta = (now_seconds() - start_) / (p.done - done_before_) * (1 - p.done);
    return p;
  }

  const Context& ctx_;
  const CompareConfig& config_;
  const TrainData& data_;
  const CompareWatcher& watcher_;
  std::vector<std::unique_ptr<Member>> members_;
  int64_t round_ = 0, rounds_ = 1;
  double start_ = 0, saved_ = 0, done_before_ = 0;
};

template <typename Value>
std::vector<double> by_seed(const Comparison& c, size_t stack, Value value) {
  std::vector<double> out;
  for (const ComparedRun& r : c.runs) {
    if (r.stack == stack) out.push_back(value(r));
  }
  return out;
}

double final_bpb(const ComparedRun& r) { return r.validation.bits_per_byte(); }

MeanInterval interval_of(const std::vector<double>& values) {
  MeanInterval m = mean_interval(values);
  if (m.count < kSeedsForInterval) m.half = std::nan("");
  return m;
}

}  // namespace

bool train_compared(const Context& ctx, const CompareConfig& config, const CompareWatcher& watcher,
                    Comparison& result) {
  BRAID_CHECK(!config.stacks.empty() && config.seeds > 0 && config.points > 0);
  result.config = config;
  refuse_other_folder(config.out);
  list_sources(config.run.data);  // a wrong path is said before there is a folder
  make_folders(config.out);
  const FolderLock lock(config.out);
  const TrainData data =
      open_run_data(join_path(config.out, "data"), config.run.data, config.run.data_binary,
                    config.first_seed, config.run.tokenizer);
  result.train_bytes = data.train_bytes();
  result.held_out_bytes = static_cast<int64_t>(data.held_out_text().size());
  result.held_out_tokens = data.held_out_tokens();
  if (result.held_out_tokens < 2) {
    throw Error(
        ErrorKind::kBadInput,
        format("{}: {} bytes of text are too few: a hundredth of them is held out to "
               "compare the stacks on, and that is {} bytes",
               config.run.data, result.train_bytes + result.held_out_bytes, result.held_out_bytes));
  }
  data.windows_per_epoch(config.run.seq_len);  // throws where the data is shorter than a window
  claim_folder(config, data);
  if (const std::string lossy = data.lossy(); !lossy.empty() && watcher.on_message)
    watcher.on_message(lossy);
  Training training(ctx, config, data, watcher);
  if (!training.train()) return false;
  result.runs = training.results();
  return true;
}

MeanInterval stack_bpb(const Comparison& c, size_t stack) {
  return interval_of(by_seed(c, stack, final_bpb));
}

MeanInterval bpb_difference(const Comparison& c, size_t stack) {
  const std::vector<double> first = by_seed(c, 0, final_bpb);
  std::vector<double> other = by_seed(c, stack, final_bpb);
  BRAID_CHECK(first.size() == other.size());
  for (size_t i = 0; i < other.size(); ++i) other[i] -= first[i];
  return interval_of(other);
}

std::vector<MeanPoint> mean_curve(const Comparison& c, size_t stack) {
  std::map<int64_t, std::vector<const CurvePoint*>> by_number;
  size_t runs = 0;
  for (const ComparedRun& r : c.runs) {
    if (r.stack != stack || r.diverged > 0) continue;
    ++runs;
    for (const CurvePoint& p : r.curve) by_number[p.number].push_back(&p);
  }
  std::vector<MeanPoint> out;
  for (const auto& [number, points] : by_number) {
    if (points.size() != runs) continue;
    MeanPoint m;
    m.low = m.high = points[0]->bpb;
    for (const CurvePoint* p : points) {
      m.tokens += static_cast<double>(p->tokens) / static_cast<double>(runs);
      m.seconds += p->seconds / static_cast<double>(runs);
      m.bpb += p->bpb / static_cast<double>(runs);
      m.low = std::min(m.low, p->bpb);
      m.high = std::max(m.high, p->bpb);
    }
    out.push_back(m);
  }
  return out;
}

bool excludes_zero(const MeanInterval& d) { return std::abs(d.mean) > d.half; }

double median_tokens_per_second(const Comparison& c, size_t stack) {
  std::vector<double> all;
  for (const ComparedRun& r : c.runs) {
    if (r.stack == stack) {
      all.insert(all.end(), r.tokens_per_second.begin(), r.tokens_per_second.end());
    }
  }
  return median(std::move(all));
}

namespace {

void add_line(const Json& line, ComparedRun& r) {
  if (line.at("event").as_string() != "step") {
    const Json& bpb = line.at("bpb");
    r.curve.push_back(
        {r.steps, r.tokens, r.seconds, bpb.is_null() ? std::nan("") : bpb.as_real(), 0});
    return;
  }
  const int64_t tokens = line.at("tokens").as_int();
  const double seconds = line.at("seconds").as_real();
  r.steps = line.at("step").as_int();
  if (r.steps < 0 || tokens < 0 || __builtin_add_overflow(r.tokens, tokens, &r.tokens) ||
      !(seconds > 0)) {
    throw Error(ErrorKind::kBadInput,
                format("step {} took {} tokens in {} s; none of them can be negative, and no step "
                       "takes no time",
                       r.steps, tokens, seconds));
  }
  r.seconds += seconds;
  r.flops += line.at("gflops").as_real() * 1e9 * seconds;
  r.tokens_per_second.push_back(static_cast<double>(tokens) / seconds);
}

}  // namespace

ComparedRun read_run_log(std::string_view log) {
  ComparedRun r;
  int64_t number = 1;
  for (size_t at = 0; at < log.size(); ++number) {
    const size_t end = std::min(log.find('\n', at), log.size());
    try {
      add_line(Json::parse(log.substr(at, end - at)), r);
    } catch (Error& e) {
      throw e.add_context(format("line {}", number));
    }
    at = end + 1;
  }
  return r;
}

void read_run_end(std::string_view text, ComparedRun& r) {
  const Json json = Json::parse(text);
  if (json.find("diverged") != nullptr) {
    r.diverged = json.at("step").as_int();
    return;
  }
  r.validation.nats = json.at("nats").is_null() ? std::nan("") : json.at("nats").as_real();
  r.validation.targets = json.at("targets").as_int();
  r.validation.bytes = json.at("bytes").as_int();
}

}  // namespace braid

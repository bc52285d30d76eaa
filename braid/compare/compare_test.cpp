#include "braid/compare/compare.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/bench/model.h"
#include "braid/compare/compare_report.h"
#include "braid/compare/identity.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// A fresh folder with a text, removed with all it holds.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/braid-compare-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::string text;
    for (int i = 0; i < 500; ++i)
      text += format("line {} of a text that says {} again\n", i, i * i % 17);
    write_file(*this / "text.txt", text);
  }
  ~Folder() { remove_folder(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

RunConfig small_run(int64_t steps) {
  RunConfig run;
  run.batch = 2;
  run.seq_len = 32;
  run.budget.steps = steps;
  run.eval_tokens = 64;
  return run;
}

CompareConfig small_comparison(const Folder& folder, const std::string& out) {
  const ModelSettings stacks[] = {bench_settings("kda, swiglu", "prenorm", 32),
                                  bench_settings("gqa, mlp", "prenorm", 32)};
  CompareConfig c;
  c.out = out;
  c.run = small_run(10);
  c.run.data = folder / "text.txt";
  c.match = MatchKind::kNone;
  c.stacks = match_stacks(stacks, c.match, c.run);
  c.seeds = 2;
  c.points = 4;
  c.turn = 3;
  c.save_every = 1;
  return c;
}

// What a comparison learned, without its times.
std::vector<std::vector<double>> learned(const Comparison& c) {
  std::vector<std::vector<double>> all;
  for (const ComparedRun& r : c.runs) {
    std::vector<double> one = {static_cast<double>(r.stack), static_cast<double>(r.seed),
                               static_cast<double>(r.steps), static_cast<double>(r.tokens),
                               r.validation.nats};
    for (const CurvePoint& p : r.curve) {
      one.insert(one.end(), {static_cast<double>(p.step), static_cast<double>(p.tokens), p.bpb});
    }
    all.push_back(std::move(one));
  }
  return all;
}

ComparedRun result(size_t stack, uint64_t seed, double bpb) {
  ComparedRun r;
  r.stack = stack;
  r.seed = seed;
  r.validation.targets = r.validation.bytes = 1000;
  r.validation.nats = bpb * std::log(2.0) * 1000;
  return r;
}

struct Killed {};

}  // namespace

TEST_CASE("means, intervals and paired differences over seeds by hand") {
  Comparison c;
  c.config.stacks.resize(2);
  c.config.seeds = 3;
  // First: mean 2, deviation 1. Differences 0.1, 0.2, 0.3: mean 0.2, deviation 0.1.
  for (uint64_t s = 0; s < 3; ++s) {
    const double first = static_cast<double>(s) + 1;
    c.runs.push_back(result(0, s, first));
    c.runs.push_back(result(1, s, first + 0.1 * first));
  }
  const double t = 4.302653;  // 97.5 % of Student's t with 2 degrees, from a printed table
  const MeanInterval bpb = stack_bpb(c, 0);
  CHECK(bpb.mean == doctest::Approx(2));
  CHECK(bpb.half == doctest::Approx(t / std::sqrt(3.0)));
  const MeanInterval d = bpb_difference(c, 1);
  CHECK(d.mean == doctest::Approx(0.2));
  CHECK(d.half == doctest::Approx(0.1 * t / std::sqrt(3.0)));  // 0.248
  CHECK_FALSE(excludes_zero(d));
  // The same mean with a third of the spread is told apart, though both stacks vary as before.
  for (ComparedRun& r : c.runs) {
    if (r.stack == 1) {
      const double first = static_cast<double>(r.seed) + 1;
      r = result(1, r.seed, first + 0.2 + (first - 2) * 0.03);
    }
  }
  CHECK(bpb_difference(c, 1).half == doctest::Approx(0.03 * t / std::sqrt(3.0)));  // 0.075
  CHECK(excludes_zero(bpb_difference(c, 1)));
}

TEST_CASE("fewer than three seeds have no interval") {
  Comparison c;
  c.config.stacks.resize(2);
  for (uint64_t s = 0; s < 2; ++s) {
    c.runs.push_back(result(0, s, 2 + 0.01 * static_cast<double>(s)));
    c.runs.push_back(result(1, s, 1));
  }
  CHECK(std::isnan(stack_bpb(c, 0).half));
  CHECK(bpb_difference(c, 1).mean == doctest::Approx(-1.005));
  CHECK_FALSE(excludes_zero(bpb_difference(c, 1)));
}

TEST_CASE("matched in parameters: a few percent, on stacks of every kind") {
  const ModelSettings stacks[] = {
      bench_settings("2 x (3 x (kda, swiglu), gqa, swiglu)", "prenorm", 192),
      bench_settings("8 x (gqa, swiglu)", "prenorm", 192),
      bench_settings("4 x (gqa, mlp)", "prenorm", 192),
      bench_settings("4 x (mla, moe{experts=4, top_k=2})", "prenorm", 192)};
  const std::vector<ComparedStack> m = match_stacks(stacks, MatchKind::kParams, small_run(10));
  REQUIRE(m.size() == 4);
  CHECK(m[0].settings.width == 192);
  for (const ComparedStack& s : m) {
    INFO(s.expression, " at width ", s.settings.width);
    const Context ctx;
    CHECK(Model(ctx, s.settings).parameters().trained_count() == s.parameters);
    CHECK(std::abs(static_cast<double>(s.parameters) / static_cast<double>(m[0].parameters) - 1) <
          0.03);
    CHECK(s.settings.head_dim == 64);
    CHECK(s.budget.steps == 10);
  }
}

TEST_CASE("where layers take few widths, the nearest of them is chosen") {
  // mamba2's 2 * width must be whole heads of 64.
  const ModelSettings stacks[] = {
      bench_settings("2 x (3 x (kda, swiglu), gqa, swiglu)", "prenorm", 192),
      bench_settings("8 x (mamba2, swiglu)", "prenorm", 192)};
  const std::vector<ComparedStack> m = match_stacks(stacks, MatchKind::kParams, small_run(10));
  const auto distance = [&](int64_t width) {
    const Context ctx;
    ModelSettings s = m[1].settings;
    s.width = width;
    return std::abs(std::log(static_cast<double>(Model(ctx, s).parameters().trained_count()) /
                             static_cast<double>(m[0].parameters)));
  };
  const int64_t width = m[1].settings.width;
  CHECK(width % 32 == 0);
  CHECK(distance(width) < distance(width - 32));
  CHECK(distance(width) < distance(width + 32));
}

TEST_CASE("matched in FLOPs: the steps whose FLOPs are nearest the first's, widths as given") {
  const ModelSettings stacks[] = {bench_settings("2 x (gqa, swiglu)", "prenorm", 64),
                                  bench_settings("3 x (gqa, swiglu)", "prenorm", 64),
                                  bench_settings("gqa, swiglu", "prenorm", 64)};
  const std::vector<ComparedStack> m = match_stacks(stacks, MatchKind::kFlops, small_run(1000));
  CHECK(m[0].budget.steps == 1000);
  CHECK(m[1].budget.steps < 1000);
  CHECK(m[2].budget.steps > 1000);
  for (const ComparedStack& s : m) {
    CHECK(s.settings.width == 64);
    CHECK(std::abs(training_flops(s) - training_flops(m[0])) <= s.step_flops / 2);
  }
  // Each block costs the same, the head beside it too.
  CHECK(m[1].step_flops - m[0].step_flops == m[0].step_flops - m[2].step_flops);
}

TEST_CASE("a stack that cannot be built is named") {
  ModelSettings bad = bench_settings("gqa{heads=5, kv_heads=2}", "prenorm", 64);
  const ModelSettings stacks[] = {bench_settings("gqa", "prenorm", 64), bad};
  for (const MatchKind kind : {MatchKind::kNone, MatchKind::kParams}) {
    try {
      match_stacks(stacks, kind, small_run(10));
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kUsage);
      CHECK(has(e.what(), "stack B"));
    }
  }
  CHECK_THROWS_AS(parse_match("size"), Error);
  CHECK(parse_match("flops") == MatchKind::kFlops);
}

TEST_CASE("stopped and killed at any round, a comparison ends as one that never stopped") {
  const Context ctx;
  const Folder folder;
  Comparison whole;
  REQUIRE(train_compared(ctx, small_comparison(folder, folder / "whole"), {}, whole));
  REQUIRE(whole.runs.size() == 4);
  for (const ComparedRun& r : whole.runs) {
    CHECK(r.steps == 10);
    REQUIRE(r.curve.size() == 4);
    CHECK(r.curve[0].step == 3);  // a quarter of 10, up to a whole step
    CHECK(r.curve[3].step == 10);
    CHECK(r.tokens_per_second.size() == 10);
  }
  // The same seed gives both stacks the same batches.
  CHECK(whole.runs[0].tokens == whole.runs[2].tokens);
  for (const int64_t save_every : {1, 2}) {
    CompareConfig c = small_comparison(folder, folder / format("stopped{}", save_every));
    c.save_every = save_every;
    int starts = 0;
    for (bool done = false; !done; ++starts) {
      REQUIRE(starts < 20);
      int steps = 0;
      CompareWatcher w;
      const bool kill = starts % 2 == 1;
      // Killed: an exception leaves everything as it is, nothing more is saved.
      w.on_step = [&](const CompareProgress&, const RunProgress&) {
        ++steps;
        if (kill && steps == 17) throw Killed();
      };
      if (!kill) w.should_stop = [&] { return steps >= 7; };
      Comparison r;
      try {
        done = train_compared(ctx, c, w, r);
      } catch (const Killed&) {
        continue;
      }
      if (done) CHECK(learned(r) == learned(whole));
    }
    CHECK(starts > 2);
  }
}

TEST_CASE("runs take turns: none is ever more than a turn ahead") {
  const Context ctx;
  const Folder folder;
  const CompareConfig c = small_comparison(folder, folder / "out");
  std::map<std::pair<size_t, uint64_t>, int64_t> at;
  CompareWatcher w;
  w.on_step = [&](const CompareProgress& p, const RunProgress& r) {
    at[{p.stack, p.seed}] = r.step;
    if (at.size() < 4) return;
    const auto [low, high] = std::minmax_element(
        at.begin(), at.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    CHECK(high->second - low->second <= c.turn);
    CHECK(p.done <= 1);
  };
  Comparison r;
  CHECK(train_compared(ctx, c, w, r));
}

TEST_CASE("another comparison, other data and other folders are refused with what differs") {
  const Context ctx;
  const Folder folder;
  CompareConfig c = small_comparison(folder, folder / "out");
  Comparison r;
  REQUIRE(train_compared(ctx, c, {}, r));
  const auto refusal = [&](const CompareConfig& other) {
    try {
      train_compared(ctx, other, {}, r);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kUsage);
      return std::string(e.what());
    }
    return std::string();
  };
  CompareConfig other = c;
  other.run.batch = 4;
  other.stacks[1].settings.width = 48;
  const std::string text = refusal(other);
  CHECK(has(text, "batch is 2 there and 4 here"));
  CHECK(has(text, "stacks.B.width"));
  CHECK_FALSE(has(text, "stacks.A"));
  other = c;
  other.stacks.pop_back();
  CHECK(has(refusal(other), "stacks.B is set there and not set here"));
  write_file(folder / "text.txt", read_file(folder / "text.txt") + "and more");
  CHECK(has(refusal(c), "data.digest"));
  c.out = parent_path(folder / "text.txt");
  CHECK(has(refusal(c), "no comparison"));
}

TEST_CASE("more seeds are added to those there are") {
  const Context ctx;
  const Folder folder;
  CompareConfig c = small_comparison(folder, folder / "grown");
  Comparison two, grown, three;
  REQUIRE(train_compared(ctx, c, {}, two));
  c.seeds = 3;
  std::vector<uint64_t> trained;
  CompareWatcher w;
  w.on_step = [&](const CompareProgress& p, const RunProgress&) { trained.push_back(p.seed); };
  REQUIRE(train_compared(ctx, c, w, grown));
  CHECK(trained == std::vector<uint64_t>(20, 2));  // 10 steps of both stacks with the new seed
  c.out = folder / "fresh";
  REQUIRE(train_compared(ctx, c, {}, three));
  CHECK(learned(grown) == learned(three));
  c.out = folder / "grown";
  c.seeds = 2;
  CHECK_THROWS_WITH_AS(train_compared(ctx, c, {}, two), doctest::Contains("seeds is 3 there"),
                       Error);
}

TEST_CASE("matched in time: every run trains for its seconds, in turns") {
  const Context ctx;
  const Folder folder;
  CompareConfig c = small_comparison(folder, folder / "out");
  c.run.budget = {0, 0, 0.4};
  c.match = MatchKind::kTime;
  const std::vector<ModelSettings> stacks = {c.stacks[0].settings, c.stacks[1].settings};
  c.stacks = match_stacks(stacks, c.match, c.run);
  std::map<std::pair<size_t, uint64_t>, std::set<int64_t>> rounds;
  CompareWatcher w;
  w.on_step = [&](const CompareProgress& p, const RunProgress&) {
    rounds[{p.stack, p.seed}].insert(p.round);
  };
  Comparison r;
  REQUIRE(train_compared(ctx, c, w, r));
  CHECK(rounds.size() == r.runs.size());
  for (const auto& [run, of] : rounds) CHECK(of.size() > 1);
  for (const ComparedRun& run : r.runs) {
    CHECK(run.seconds >= 0.4);
    CHECK(run.seconds - static_cast<double>(run.tokens) / static_cast<double>(run.steps) /
                            run.tokens_per_second.back() <
          0.4);  // before its last step it was not over
    CHECK(run.validation.targets > 0);
    CHECK(run.curve.back().step == run.steps);
  }
}

TEST_CASE("curves are averaged over the same points of every seed") {
  Comparison c;
  c.runs.resize(3);
  c.runs[0].curve = {{1, 10, 1, 4, 1}, {2, 20, 2, 3, 2}, {4, 40, 4, 1, 4}};
  c.runs[1].curve = {{1, 10, 3, 6, 1}, {3, 30, 5, 9, 3}, {4, 60, 6, 2, 4}};
  c.runs[2].curve = {{1, 10, 1, 99, 1}};
  c.runs[2].diverged = 2;
  const std::vector<MeanPoint> m = mean_curve(c, 0);
  REQUIRE(m.size() == 2);
  CHECK(m[0].bpb == 5);
  CHECK(m[1].tokens == 50);
  CHECK(m[1].seconds == 5);
  CHECK(m[1].bpb == 1.5);
  CHECK(m[1].low == 1);
  CHECK(m[1].high == 2);
}

TEST_CASE("what a kill leaves before a comparison has begun is no other folder") {
  const Folder folder;
  const std::string out = folder / "out";
  make_folders(out);
  write_file(join_path(out, "comparison.json.tmp-123"), "{");
  CHECK_NOTHROW(refuse_other_folder(out));
  write_file(join_path(out, "notes.txt"), "mine");
  CHECK_THROWS_WITH_AS(refuse_other_folder(out), doctest::Contains("notes.txt"), Error);
}

TEST_CASE("a run that diverges is a result, and the others go on") {
  const Context ctx;
  const Folder folder;
  CompareConfig c = small_comparison(folder, folder / "out");
  std::vector<ModelSettings> stacks = {c.stacks[0].settings, c.stacks[1].settings};
  stacks[1].logit_scale = 1e39;  // beyond f32
  c.run.budget.steps = 40;
  c.stacks = match_stacks(stacks, c.match, c.run);
  std::vector<std::string> messages;
  CompareWatcher w;
  w.on_message = [&](const std::string& m) { messages.push_back(m); };
  Comparison r;
  REQUIRE(train_compared(ctx, c, w, r));
  REQUIRE(messages.size() >= 2);
  CHECK(has(messages.back(), "B, seed 1: training has diverged"));
  CHECK(r.runs[0].diverged == 0);
  CHECK(r.runs[0].steps == 40);
  CHECK(r.runs[3].diverged == 31);  // and the 32nd was the last straw
  CHECK(std::isfinite(stack_bpb(r, 0).mean));
  CHECK(std::isnan(bpb_difference(r, 1).mean));
  CHECK_FALSE(excludes_zero(bpb_difference(r, 1)));
  CHECK(has(compare_table(r), "B, seed 0 diverged at step 31."));
  CHECK_FALSE(has(compare_html(r), "nan"));
  const Json json = Json::parse(compare_json(r).dump());
  const Json& b = json.at("stacks").elements()[1];
  CHECK(b.at("bpb").at("mean").is_null());
  CHECK(b.at("runs").elements()[1].at("diverged_at_step").as_int() == 31);
}

TEST_CASE("the report is whole: every stack, seed, curve and no interval that there is not") {
  const Context ctx;
  const Folder folder;
  CompareConfig c = small_comparison(folder, folder / "out");
  Comparison r;
  REQUIRE(train_compared(ctx, c, {}, r));
  write_compare_report(r);
  const Json json = Json::parse(read_file(folder / "out/compare.json"));
  REQUIRE(json.at("stacks").size() == 2);
  const Json& b = json.at("stacks").elements()[1];
  CHECK(b.at("runs").size() == 2);
  CHECK(b.at("runs").elements()[0].at("curve").size() == 4);
  CHECK(b.at("bpb").at("half_width_95").is_null());
  CHECK(b.at("bpb_minus_first").at("excludes_zero").is_null());
  CHECK(b.at("runs").elements()[1].at("bpb").as_real() == r.runs[3].validation.bits_per_byte());
  const std::string page = read_file(folder / "out/compare.html");
  CHECK(has(page, "Against seconds"));
  CHECK(has(page, "gqa, mlp"));
  CHECK_FALSE(has(page, "nan"));
  CHECK_FALSE(has(page, "http"));
  CHECK(has(compare_table(r), "intervals need 3"));
}

TEST_CASE("a run's log whose numbers cannot be is refused") {
  const auto line = [](const char* step, const char* tokens, const char* seconds) {
    return format(R"({{"event":"step","step":{},"bpb":1,"tokens":{},"seconds":{},"gflops":1}})"
                  "\n",
                  step, tokens, seconds);
  };
  CHECK(read_run_log(line("1", "5", "0.5") + line("2", "6", "1.5")).tokens == 11);
  for (const std::string& log :
       {line("-1", "5", "1"), line("1", "-5", "1"), line("1", "5", "0"), line("1", "5", "-1"),
        line("1", "9223372036854775807", "1") + line("2", "1", "1")}) {
    INFO(log);
    CHECK_THROWS_WITH_AS(read_run_log(log), doctest::Contains("none of them can be"), Error);
  }
  CHECK_THROWS_WITH_AS(read_run_log(line("1", "5", "1") + "{}\n"), doctest::Contains("line 2: "),
                       Error);
}

}  // namespace braid

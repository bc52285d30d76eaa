#include "braid/compare/compare_report.h"

#include <algorithm>
#include <cmath>

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/bench/stack_report.h"
#include "braid/report/page.h"
#include "braid/report/table.h"
#include "braid/report/units.h"

namespace braid {
namespace {

constexpr double kFarApart = 0.03;  // numbers of parameters that count as matched

std::string signed_percent(double share) { return format("{:+.2f} %", share * 100); }

std::string interval_text(const MeanInterval& m, bool with_sign) {
  if (!std::isfinite(m.mean)) return "diverged";
  const std::string mean = with_sign ? format("{:+.4f}", m.mean) : format("{:.4f}", m.mean);
  return std::isfinite(m.half) ? format("{} ± {:.4f}", mean, m.half) : mean;
}

std::string verdict(const MeanInterval& d) {
  if (!std::isfinite(d.mean)) return "";
  if (!std::isfinite(d.half)) return "no interval";
  if (!excludes_zero(d)) return "not told apart";
  return d.mean < 0 ? "better" : "worse";
}

double share_of_first(double value, double first) { return value / first - 1; }

// Sums over the runs of a stack.
struct Totals {
  double steps = 0, tokens = 0, seconds = 0, flops = 0, runs = 0;
};

Totals totals(const Comparison& c, size_t stack) {
  Totals t;
  for (const ComparedRun& r : c.runs) {
    if (r.stack != stack) continue;
    t.steps += static_cast<double>(r.steps);
    t.tokens += static_cast<double>(r.tokens);
    t.seconds += r.seconds;
    t.flops += r.flops;
    t.runs += 1;
  }
  return t;
}

double flops_per_token(const Comparison& c, const ComparedStack& s) {
  const RunConfig& r = c.config.run;
  return s.step_flops / static_cast<double>(r.batch * r.seq_len * r.accumulate);
}

TextRows stack_rows(const Comparison& c) {
  TextRows rows = {{"", "width", "parameters", "to A", "FLOPs a token", "steps", "stack"}};
  const std::vector<ComparedStack>& stacks = c.config.stacks;
  for (size_t i = 0; i < stacks.size(); ++i) {
    const ComparedStack& s = stacks[i];
    rows.push_back({s.label, format("{}", s.settings.width), format("{}", s.parameters),
                    i == 0
                        ? ""
                        : signed_percent(share_of_first(static_cast<double>(s.parameters),
                                                        static_cast<double>(stacks[0].parameters))),
                    count_text(flops_per_token(c, s)),
                    format("{:.0f}", totals(c, i).steps / totals(c, i).runs), s.expression});
  }
  return rows;
}

TextRows result_rows(const Comparison& c) {
  TextRows rows = {{"", "bits per byte", "minus A, paired", "", "tokens/s", "tokens a run",
                    "FLOPs a run", "s a run"}};
  for (size_t i = 0; i < c.config.stacks.size(); ++i) {
    const Totals t = totals(c, i);
    const MeanInterval d = bpb_difference(c, i);
    rows.push_back({c.config.stacks[i].label, interval_text(stack_bpb(c, i), false),
                    i == 0 ? "" : interval_text(d, true), i == 0 ? "" : verdict(d),
                    count_text(median_tokens_per_second(c, i)), count_text(t.tokens / t.runs),
                    count_text(t.flops / t.runs), format("{:.1f}", t.seconds / t.runs)});
  }
  return rows;
}

TextRows seed_rows(const Comparison& c) {
  TextRows rows = {{"seed"}};
  for (const ComparedStack& s : c.config.stacks) rows[0].push_back(s.label);
  for (int64_t i = 0; i < c.config.seeds; ++i) {
    const uint64_t seed = c.config.first_seed + static_cast<uint64_t>(i);
    std::vector<std::string> row = {format("{}", seed)};
    for (const ComparedRun& r : c.runs) {
      if (r.seed != seed) continue;
      row.push_back(r.diverged > 0 ? "diverged" : format("{:.4f}", r.validation.bits_per_byte()));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

const char* matched_text(MatchKind kind) {
  switch (kind) {
    case MatchKind::kParams:
      return "Widths are those whose numbers of parameters are nearest A's; steps are the same.";
    case MatchKind::kFlops:
      return "Steps are so many that training FLOPs are nearest A's; widths are as given.";
    case MatchKind::kTime:
      return "Every run trained for the same time; widths are as given.";
    case MatchKind::kNone:
      return "Nothing was matched but data, order and steps.";
  }
  return "";
}

std::string notes(const Comparison& c) {
  std::string out = matched_text(c.config.match);
  out += c.config.seeds < kSeedsForInterval
             ? format(" {} seed{}: intervals need {} (--seeds {}).", c.config.seeds,
                      c.config.seeds == 1 ? "" : "s", kSeedsForInterval, kSeedsForInterval)
             : format(
                   " ± is the 95 % interval of the mean over {} seeds by Student's t; "
                   "differences are taken seed by seed.",
                   c.config.seeds);
  const std::vector<ComparedStack>& stacks = c.config.stacks;
  for (const ComparedStack& s : stacks) {
    const double share = share_of_first(static_cast<double>(s.parameters),
                                        static_cast<double>(stacks[0].parameters));
    if (c.config.match != MatchKind::kParams || std::abs(share) < kFarApart) continue;
    out += format(" {} has {} parameters: its layers take no width that brings it nearer.", s.label,
                  signed_percent(share));
  }
  for (const ComparedRun& r : c.runs) {
    if (r.diverged == 0) continue;
    out += format(" {}, seed {} diverged at step {}.", stacks[r.stack].label, r.seed, r.diverged);
  }
  for (const std::string& s : c.costs.left_out)
    out += format(" Left out, --cost-time is short: {}.", s);
  return out;
}

PlotSeries curve(const Comparison& c, size_t stack, bool against_seconds) {
  PlotSeries line{.label = c.config.stacks[stack].label,
                  .colour = static_cast<int>(stack) + 1,
                  .points = {},
                  .notes = {}};
  for (const MeanPoint& p : mean_curve(c, stack)) {
    const double x = against_seconds ? p.seconds : p.tokens;
    line.points.emplace_back(x, p.bpb);
    line.band.push_back({x, p.low, p.high});
  }
  return line;
}

std::string curve_plot(const Comparison& c, bool against_seconds) {
  Plot plot;
  plot.description = format("held-out bits per byte against {}",
                            against_seconds ? "seconds of training" : "tokens trained on");
  plot.x = {.label = against_seconds ? "seconds of training" : "tokens trained on",
            .ticks = {},
            .from_zero = true,
            .tight = true};
  plot.y = {.label = "bits per byte", .ticks = {}};
  plot.legend = false;
  for (size_t i = 0; i < c.config.stacks.size(); ++i)
    plot.series.push_back(curve(c, i, against_seconds));
  return svg_plot(plot);
}

std::string key(const Comparison& c) {
  std::vector<PlotSeries> lines;
  for (size_t i = 0; i < c.config.stacks.size(); ++i) {
    const ComparedStack& s = c.config.stacks[i];
    lines.push_back({.label = s.label + "  " + s.expression,
                     .colour = static_cast<int>(i) + 1,
                     .points = {},
                     .notes = {}});
  }
  return html_key(lines);
}

std::string data_facts(const Comparison& c) {
  const RunConfig& r = c.config.run;
  std::string out = "<dl class=\"facts\">\n";
  out += html_fact("Data", r.data);
  out += html_fact("Read as", r.tokenizer.present() ? format("tokens of a vocabulary of {}",
                                                             r.tokenizer.tokenizer->vocab_size())
                                                    : std::string("bytes"));
  out += html_fact("Trained on, of", bytes_text(static_cast<double>(c.train_bytes)));
  out += html_fact("Held out", bytes_text(static_cast<double>(c.held_out_bytes)));
  out += html_fact("Matched", match_name(c.config.match));
  out += html_fact("Seeds", format("{} from {}", c.config.seeds, c.config.first_seed));
  out += html_fact("Tokens a step", format("{} x {} x {}", r.accumulate, r.batch, r.seq_len));
  out +=
      html_fact("Optimizer", format("{}, lr {}", r.optim.use_muon ? "muon" : "adamw", r.optim.lr));
  out += html_fact("Schedule", format("{}, {} steps of warm-up", schedule_name(r.schedule.kind),
                                      r.schedule.warmup_steps));
  return out + "</dl>\n";
}

Json interval_json(const MeanInterval& m) {
  return Json::object({{"mean", m.mean}, {"half_width_95", m.half}, {"seeds", m.count}});
}

Json run_json(const ComparedRun& r) {
  Json points = Json::array();
  for (const CurvePoint& p : r.curve) {
    points.push(Json::object(
        {{"step", p.step}, {"tokens", p.tokens}, {"seconds", p.seconds}, {"bpb", p.bpb}}));
  }
  return Json::object({{"seed", r.seed},
                       {"diverged_at_step", r.diverged > 0 ? Json(r.diverged) : Json()},
                       {"bpb", r.validation.bits_per_byte()},
                       {"held_out_tokens", r.validation.targets},
                       {"held_out_bytes", r.validation.bytes},
                       {"steps", r.steps},
                       {"tokens", r.tokens},
                       {"seconds", r.seconds},
                       {"flops", r.flops},
                       {"tokens_per_second", median(r.tokens_per_second)},
                       {"curve", points}});
}

Json decode_json(const CostSubject& s) {
  Json rows = Json::array();
  for (const CostPoint& p : s.of(CostPhase::kDecode)) {
    rows.push(Json::object({{"context", p.length},
                            {"tpot_ms", p.median_seconds() * 1e3},
                            {"state_bytes", p.state_bytes}}));
  }
  return rows;
}

}  // namespace

Json stack_result_json(const Comparison& c, size_t stack) {
  const ComparedStack& s = c.config.stacks[stack];
  const double parameters = static_cast<double>(s.parameters);
  Json out = Json::object(
      {{"label", s.label},
       {"stack", s.expression},
       {"width", s.settings.width},
       {"heads", s.settings.heads},
       {"head_dim", s.settings.head_dim},
       {"parameters", s.parameters},
       {"active_parameters", s.active},
       {"parameters_over_first", parameters / static_cast<double>(c.config.stacks[0].parameters)},
       {"training_flops_per_token", flops_per_token(c, s)},
       {"bpb", interval_json(stack_bpb(c, stack))},
       {"tokens_per_second", median_tokens_per_second(c, stack)}});
  if (s.budget.steps > 0) {
    out.set("steps", s.budget.steps);
    out.set("training_flops", training_flops(s));
    out.set("training_flops_over_first", training_flops(s) / training_flops(c.config.stacks[0]));
  }
  if (stack > 0) {
    const MeanInterval d = bpb_difference(c, stack);
    Json difference = interval_json(d);
    difference.set("excludes_zero", std::isfinite(d.half) ? Json(excludes_zero(d)) : Json());
    out.set("bpb_minus_first", difference);
  }
  if (stack < c.costs.stacks.size()) out.set("decode", decode_json(c.costs.stacks[stack]));
  return out;
}

Json compare_json(const Comparison& c) {
  Json stacks = Json::array();
  for (size_t i = 0; i < c.config.stacks.size(); ++i) {
    Json stack = stack_result_json(c, i);
    Json runs = Json::array();
    for (const ComparedRun& r : c.runs) {
      if (r.stack == i) runs.push(run_json(r));
    }
    stack.set("runs", runs);
    stacks.push(std::move(stack));
  }
  const RunConfig& r = c.config.run;
  const MachineLimits& m = c.costs.limits;
  return Json::object(
      {{"match", match_name(c.config.match)},
       {"seeds", c.config.seeds},
       {"first_seed", c.config.first_seed},
       {"data",
        Json::object({{"path", r.data},
                      {"tokenizer", r.tokenizer.digest.empty() ? Json() : Json(r.tokenizer.digest)},
                      {"train_bytes", c.train_bytes},
                      {"held_out_bytes", c.held_out_bytes}})},
       {"tokens_per_step", r.batch * r.seq_len * r.accumulate},
       {"machine", Json::object({{"cpu", m.cpu},
                                 {"threads", m.threads},
                                 {"instructions", instructions_json(m.instructions)},
                                 {"f32_peak_gflops", m.peak_gflops},
                                 {"memory_read_gbs", m.read_gbs}})},
       {"stacks", stacks}});
}

std::string compare_table(const Comparison& c) {
  std::string out = text_table(stack_rows(c), true) + "\n" + text_table(result_rows(c)) + "\n";
  if (!c.costs.stacks.empty()) out += decode_table(c.costs) + "\n";
  return out + notes(c) + "\n";
}

std::string compare_html(const Comparison& c) {
  const size_t stack_text[] = {6}, verdict_text[] = {3};
  std::string out = "<h1>Stacks compared</h1>\n" + key(c);
  out += format("<section>\n<h2>What they learned</h2>\n<p class=\"lead\">{}</p>\n{}{}</section>\n",
                markup_text(notes(c)), html_table(result_rows(c), verdict_text),
                html_table(stack_rows(c), stack_text));
  out += format(
      "<section>\n<h2>Learning curves</h2>\n<p class=\"lead\">Bits per byte on the way, of the "
      "first "
      "{} held-out {} (the results are of all {}): "
      "the mean over seeds, and from the lowest to the highest.</p>\n<div class=\"pair\">\n"
      "<div><h3>Against tokens</h3>{}</div>\n<div><h3>Against seconds</h3>{}</div>\n</div>\n"
      "</section>\n",
      std::min(c.config.run.eval_tokens, c.held_out_tokens),
      c.config.run.tokenizer.present() ? "tokens" : "bytes", c.held_out_tokens,
      curve_plot(c, false), curve_plot(c, true));
  if (!c.costs.stacks.empty()) {
    out +=
        "<section>\n<h2>One more token</h2>\n<p class=\"lead\">Untrained weights and a "
        "filled-in context, batch 1.</p>\n" +
        decode_html(c.costs) + "</section>\n";
  }
  out +=
      "<section>\n<h2>Every seed</h2>\n<p class=\"lead\">Bits per byte of all held-out "
      "text.</p>\n" +
      html_table(seed_rows(c)) + "</section>\n";
  out += "<section>\n<h2>Data and training</h2>\n" + data_facts(c) + "</section>\n";
  return html_page("braid compare", out + (c.costs.stacks.empty() ? "" : machine_html(c.costs)));
}

void write_compare_report(const Comparison& c) {
  write_file(join_path(c.config.out, "compare.json"), compare_json(c).dump_pretty());
  write_file(join_path(c.config.out, "compare.html"), compare_html(c));
}

}  // namespace braid

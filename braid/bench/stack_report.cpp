#include "braid/bench/stack_report.h"

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/report/page.h"
#include "braid/report/table.h"
#include "braid/report/units.h"

namespace braid {
namespace {

using Rows = TextRows;

double microseconds(const CostPoint& p, CostPhase phase) {
  return p.median_seconds() * 1e6 / static_cast<double>(p.tokens(phase));
}

std::string three_digits(double v) {
  return v >= 99.95 ? format("{:.0f}", v) : v >= 9.995 ? format("{:.1f}", v) : format("{:.2f}", v);
}

std::string percent(double share) {
  return std::isfinite(share) ? format("{:.0f} %", share * 100) : "";
}

std::vector<int64_t> lengths_of(const std::vector<CostSubject>& subjects, CostPhase phase) {
  std::vector<int64_t> lengths;
  for (const CostSubject& s : subjects) {
    for (const CostPoint& p : s.of(phase)) lengths.push_back(p.length);
  }
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  return lengths;
}

std::vector<const CostSubject*> alone(const std::vector<CostSubject>& subjects) {
  std::vector<const CostSubject*> out;
  for (const CostSubject& s : subjects) {
    if (s.alone.empty()) out.push_back(&s);
  }
  return out;
}

Rows stack_rows(const StackCosts& costs) {
  Rows rows = {{"", "parameters", "used a token", "forward FLOPs a token", "stack"}};
  for (const CostSubject& s : costs.stacks) {
    const std::vector<CostPoint>& f = s.of(CostPhase::kForward);
    rows.push_back(
        {s.label, count_text(static_cast<double>(s.parameters)),
         count_text(static_cast<double>(s.active)),
         f.empty() ? "-"
                   : format("{} at {}", count_text(f[0].flops / static_cast<double>(f[0].length)),
                            context_text(f[0].length)),
         s.expression});
  }
  return rows;
}

// Microseconds a token of every subject, with the share of the limit beside it where there is one.
Rows time_rows(const std::vector<CostSubject>& subjects, CostPhase phase) {
  const std::vector<const CostSubject*> shown = alone(subjects);
  Rows rows = {{phase == CostPhase::kDecode ? "after tokens" : "tokens"}};
  for (const CostSubject* s : shown) {
    rows[0].push_back(s->label);
    if (!s->of(phase).empty() && !s->of(phase)[0].shares.empty()) rows[0].emplace_back("share");
  }
  for (const int64_t n : lengths_of(subjects, phase)) {
    std::vector<std::string> row = {context_text(n)};
    for (const CostSubject* s : shown) {
      const CostPoint* p = s->at(phase, n);
      row.push_back(p == nullptr ? "-" : three_digits(microseconds(*p, phase)));
      if (p != nullptr && !p->shares.empty()) row.push_back(percent(p->median_share()));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Rows state_rows(const std::vector<CostSubject>& subjects) {
  const std::vector<const CostSubject*> shown = alone(subjects);
  Rows rows = {{"after tokens"}};
  for (const CostSubject* s : shown) rows[0].push_back(s->label);
  for (const int64_t n : lengths_of(subjects, CostPhase::kDecode)) {
    std::vector<std::string> row = {context_text(n)};
    for (const CostSubject* s : shown) {
      const CostPoint* p = s->at(CostPhase::kDecode, n);
      row.push_back(p == nullptr ? "-" : bytes_text(static_cast<double>(p->state_bytes)));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Rows layer_rows(const StackCosts& costs) {
  Rows rows = {{"layer", "parameters"}};
  for (const CostSubject& s : costs.stacks) rows[0].push_back("in " + s.label);
  for (const CostSubject& l : costs.layers) {
    std::vector<std::string> row = {l.label, count_text(static_cast<double>(l.parameters))};
    for (const int64_t n : l.used) row.push_back(format("{} x", n));
    rows.push_back(std::move(row));
  }
  return rows;
}

Rows crossing_rows(const StackCosts& costs) {
  Rows rows = {{"stacks", "cost", "cheaper"}};
  for (const CrossoverRow& c : crossover_rows(costs)) {
    rows.push_back({format("{}, {}", c.first, c.second), c.what, c.text()});
  }
  return rows;
}

std::string time_title(CostPhase phase) {
  return format("{}, microseconds a token", phase_name(phase));
}

std::string notes_text(const StackCosts& costs) {
  std::string out;
  for (const CostSubject& l : costs.layers) {
    if (!l.alone.empty()) out += format("not measured alone: {} {}\n", l.label, l.alone);
  }
  for (const std::string& s : costs.left_out) out += format("left out, --time is short: {}\n", s);
  return out;
}

// Plots.

Plot length_plot(std::span<const int64_t> lengths, const char* x, const char* y) {
  Plot plot;
  plot.description = format("{} against {}", y, x);
  plot.x = {.label = x, .log = true, .ticks = length_ticks(lengths)};
  plot.y = {.label = y, .log = true, .ticks = {}};
  plot.legend = false;
  return plot;
}

std::string time_plot(const std::vector<CostSubject>& subjects, CostPhase phase) {
  const std::vector<int64_t> lengths = lengths_of(subjects, phase);
  Plot plot = length_plot(
      lengths, phase == CostPhase::kDecode ? "tokens before it" : "tokens of the sequence",
      "microseconds a token");
  int colour = 0;
  for (const CostSubject* s : alone(subjects)) {
    PlotSeries line{
        .label = s->label, .colour = ++colour, .markers = true, .points = {}, .notes = {}};
    for (const CostPoint& p : s->of(phase)) {
      line.points.emplace_back(static_cast<double>(p.length), microseconds(p, phase));
    }
    plot.series.push_back(std::move(line));
  }
  return svg_plot(plot);
}

std::string state_plot(const std::vector<CostSubject>& subjects) {
  Plot plot =
      length_plot(lengths_of(subjects, CostPhase::kDecode), "tokens before it", "bytes of state");
  double low = INFINITY, high = 0;
  int colour = 0;
  for (const CostSubject* s : alone(subjects)) {
    PlotSeries line{
        .label = s->label, .colour = ++colour, .markers = true, .points = {}, .notes = {}};
    for (const CostPoint& p : s->of(CostPhase::kDecode)) {
      const double bytes = static_cast<double>(p.state_bytes);
      if (bytes <= 0) continue;
      low = std::min(low, bytes);
      high = std::max(high, bytes);
      line.points.emplace_back(static_cast<double>(p.length), bytes);
    }
    plot.series.push_back(std::move(line));
  }
  plot.y.ticks = byte_ticks(low, high);
  return svg_plot(plot);
}

std::string key(const std::vector<CostSubject>& subjects, bool expressions) {
  std::vector<PlotSeries> lines;
  int colour = 0;
  for (const CostSubject* s : alone(subjects)) {
    lines.push_back({.label = expressions ? s->label + "  " + s->expression : s->label,
                     .colour = ++colour,
                     .points = {},
                     .notes = {}});
  }
  return html_key(lines);
}

std::string decode_plots(const std::vector<CostSubject>& subjects) {
  if (lengths_of(subjects, CostPhase::kDecode).empty()) return "";
  return format(
      "<div><h3>One more token</h3>{}</div>\n<div><h3>State of one sequence</h3>{}</div>\n",
      time_plot(subjects, CostPhase::kDecode), state_plot(subjects));
}

std::string four_plots(const std::vector<CostSubject>& subjects) {
  std::string out = "<div class=\"pair\">\n";
  for (const CostPhase phase : {CostPhase::kForward, CostPhase::kBackward}) {
    if (lengths_of(subjects, phase).empty()) continue;
    out +=
        format("<div><h3>{}</h3>{}</div>\n", phase == CostPhase::kForward ? "Forward" : "Backward",
               time_plot(subjects, phase));
  }
  return out + decode_plots(subjects) + "</div>\n";
}

std::string tables(const std::vector<CostSubject>& subjects) {
  std::string out;
  for (const CostPhase phase : kCostPhases) {
    if (lengths_of(subjects, phase).empty()) continue;
    out += format("<h3>{}</h3>\n", time_title(phase)) + html_table(time_rows(subjects, phase));
  }
  if (!lengths_of(subjects, CostPhase::kDecode).empty()) {
    out += "<h3>state of one sequence</h3>\n" + html_table(state_rows(subjects));
  }
  return out;
}

Json point_json(const CostSubject& s, bool layer, CostPhase phase, const CostPoint& p) {
  Json line = Json::object({{"event", "cost"},
                            {"kind", layer ? "layer" : "stack"},
                            {"of", s.label},
                            {"phase", phase_name(phase)},
                            {"length", p.length},
                            {"seconds", p.median_seconds()},
                            {"microseconds_per_token", microseconds(p, phase)},
                            {"samples", p.seconds.size()}});
  if (p.flops > 0) {
    line.set("flops", p.flops);
    line.set("gflops", p.flops / p.median_seconds() * 1e-9);
  }
  if (!p.shares.empty()) line.set("share_of_limit", p.median_share());
  if (phase == CostPhase::kDecode) line.set("state_bytes", p.state_bytes);
  return line;
}

}  // namespace

std::string CrossoverRow::text() const {
  if (ratios.empty()) return "not measured";
  const auto cheaper = [&](double ratio) -> const std::string& {
    return ratio < 1 ? second : first;
  };
  const double at_start = ratios.front().ratio;
  if (found.empty()) {
    return at_start == 1 && ratios.back().ratio == 1
               ? format("the same up to {} tokens", context_text(ratios.back().length))
               : format("none up to {} tokens: {} is cheaper, {:.2f} to {:.2f} times",
                        context_text(ratios.back().length), cheaper(ratios.back().ratio),
                        std::exp(std::abs(std::log(at_start))),
                        std::exp(std::abs(std::log(ratios.back().ratio))));
  }
  std::string out = cheaper(at_start);
  for (const Crossover& c : found) {
    out += format(", then {} from {:.0f} tokens on", c.to_second ? second : first, c.length);
  }
  return out;
}

std::vector<CrossoverRow> crossover_rows(const StackCosts& costs) {
  std::vector<CrossoverRow> rows;
  for (size_t i = 0; i < costs.stacks.size(); ++i) {
    for (size_t j = i + 1; j < costs.stacks.size(); ++j) {
      const CostSubject &a = costs.stacks[i], &b = costs.stacks[j];
      for (const CostPhase phase : kCostPhases) {
        rows.push_back({a.label, b.label, phase_name(phase), cost_ratios(a, b, phase), {}});
      }
      rows.push_back({a.label, b.label, "state", state_ratios(a, b), {}});
    }
  }
  std::erase_if(rows, [](const CrossoverRow& r) { return r.ratios.empty(); });
  for (CrossoverRow& r : rows) r.found = crossovers(r.ratios);
  return rows;
}

std::string machine_html(const StackCosts& costs) {
  std::string out = "<section>\n<h2>Measured on</h2>\n<dl class=\"facts\">\n";
  const MachineLimits& m = costs.limits;
  out += html_fact("Processor", m.cpu);
  out += html_fact("Threads used", format("{}", m.threads));
  out += html_fact("Instructions", instructions_text(m.instructions));
  out += html_fact("f32 product peak", format("{:.0f} GFLOP/s", m.peak_gflops));
  out += html_fact("Memory read", format("{:.1f} GB/s", m.read_gbs));
  out += html_fact("Memory read and write", format("{:.1f} GB/s", m.read_write_gbs));
  out += html_fact("Rounds", format("{} in {}", costs.rounds, duration_text(costs.seconds)));
  return out + "</dl>\n</section>\n";
}

std::string decode_table(const StackCosts& costs) {
  return format("{}\n{}\nstate of one sequence\n{}", time_title(CostPhase::kDecode),
                text_table(time_rows(costs.stacks, CostPhase::kDecode)),
                text_table(state_rows(costs.stacks)));
}

std::string decode_html(const StackCosts& costs) {
  return "<div class=\"pair\">\n" + decode_plots(costs.stacks) + "</div>\n" + tables(costs.stacks);
}

std::vector<Json> stack_cost_json(const StackCosts& costs) {
  std::vector<Json> lines;
  const MachineLimits& m = costs.limits;
  Json left_out = Json::array();
  for (const std::string& s : costs.left_out) left_out.push(s);
  lines.push_back(Json::object({{"event", "machine"},
                                {"cpu", m.cpu},
                                {"threads", m.threads},
                                {"instructions", instructions_json(m.instructions)},
                                {"f32_peak_gflops", m.peak_gflops},
                                {"memory_read_gbs", m.read_gbs},
                                {"memory_read_write_gbs", m.read_write_gbs},
                                {"rounds", costs.rounds},
                                {"seconds", costs.seconds},
                                {"interrupted", costs.interrupted},
                                {"left_out", left_out}}));
  for (const CostSubject& s : costs.stacks) {
    lines.push_back(Json::object({{"event", "stack"},
                                  {"label", s.label},
                                  {"stack", s.expression},
                                  {"parameters", s.parameters},
                                  {"active_parameters", s.active}}));
  }
  for (const CostSubject& l : costs.layers) {
    Json used = Json::object();
    for (size_t i = 0; i < l.used.size(); ++i) used.set(costs.stacks[i].label, l.used[i]);
    Json line = Json::object({{"event", "layer"},
                              {"label", l.label},
                              {"parameters", l.parameters},
                              {"active_parameters", l.active},
                              {"runs_in", used}});
    if (!l.alone.empty()) line.set("not_alone", l.alone);
    lines.push_back(std::move(line));
  }
  for (const bool layer : {false, true}) {
    for (const CostSubject& s : layer ? costs.layers : costs.stacks) {
      for (const CostPhase phase : kCostPhases) {
        for (const CostPoint& p : s.of(phase)) lines.push_back(point_json(s, layer, phase, p));
      }
    }
  }
  for (const CrossoverRow& c : crossover_rows(costs)) {
    Json at = Json::array();
    for (const Crossover& x : c.found) {
      at.push(Json::object(
          {{"length", x.length}, {"cheaper_from_there", x.to_second ? c.second : c.first}}));
    }
    Json ratios = Json::array();
    for (const RatioPoint& r : c.ratios) ratios.push(Json::array({r.length, r.ratio}));
    lines.push_back(Json::object({{"event", "crossover"},
                                  {"first", c.first},
                                  {"second", c.second},
                                  {"cost", c.what},
                                  {"second_over_first", ratios},
                                  {"crossovers", at},
                                  {"text", c.text()}}));
  }
  return lines;
}

std::string stack_cost_table(const StackCosts& costs) {
  const MachineLimits& m = costs.limits;
  std::string out =
      format("{}; f32 peak {:.0f} GFLOP/s, read {:.1f} GB/s, medians of {} rounds in {}\n{}\n\n",
             m.cpu, m.peak_gflops, m.read_gbs, costs.rounds, duration_text(costs.seconds),
             instructions_text(m.instructions));
  out += text_table(stack_rows(costs), true);
  const auto times = [&](const std::vector<CostSubject>& subjects, const char* of) {
    for (const CostPhase phase : kCostPhases) {
      if (lengths_of(subjects, phase).empty()) continue;
      out += format("\n{}{}\n{}", time_title(phase), of, text_table(time_rows(subjects, phase)));
    }
    if (!lengths_of(subjects, CostPhase::kDecode).empty()) {
      out += format("\nstate of one sequence{}\n{}", of, text_table(state_rows(subjects)));
    }
  };
  times(costs.stacks, "");
  if (costs.stacks.size() > 1) out += "\n" + text_table(crossing_rows(costs), true);
  if (!costs.layers.empty()) {
    out += "\n" + text_table(layer_rows(costs));
    times(costs.layers, ", of one layer alone");
  }
  const std::string notes = notes_text(costs);
  return notes.empty() ? out : out + "\n" + notes;
}

std::string stack_cost_html(const StackCosts& costs) {
  std::string out = "<h1>What stacks cost against length</h1>\n";
  out += key(costs.stacks, true);
  const size_t stack_text[] = {4};
  out +=
      "<section>\n<h2>Stacks</h2>\n" + html_table(stack_rows(costs), stack_text) + "</section>\n";
  out +=
      "<section>\n<h2>Whole stacks</h2>\n<p class=\"lead\">One sequence; forward and backward with "
      "the loss, decoding with untrained weights and a filled-in context. Both axes are "
      "logarithmic.</p>\n" +
      four_plots(costs.stacks) + "</section>\n";
  if (costs.stacks.size() > 1) {
    const size_t text[] = {1, 2};
    out +=
        "<section>\n<h2>Where one becomes cheaper</h2>\n<p class=\"lead\">From the medians of "
        "round-by-round ratios, interpolated between measured lengths.</p>\n" +
        html_table(crossing_rows(costs), text) + "</section>\n";
  }
  if (!alone(costs.layers).empty()) {
    out += "<section>\n<h2>Each layer alone</h2>\n" + key(costs.layers, false) +
           four_plots(costs.layers) + html_table(layer_rows(costs)) + "</section>\n";
  }
  out += format(
      "<section>\n<h2>Numbers</h2>\n<p class=\"lead\">Shares are of the f32 product peak, and for "
      "a "
      "decoded token of the time that its bytes and products need at least, each limit read right "
      "before and after the measurement. Above 100 %, weights or state came from caches.</p>\n{}"
      "</section>\n",
      tables(costs.stacks) + (costs.layers.empty() ? "" : "<h3>Layers alone</h3>\n") +
          tables(costs.layers));
  const std::string notes = notes_text(costs);
  if (!notes.empty()) {
    out +=
        format("<section>\n<h2>Not measured</h2>\n<pre>{}</pre></section>\n", markup_text(notes));
  }
  return html_page("braid bench stack", out + machine_html(costs));
}

}  // namespace braid

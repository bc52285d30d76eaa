#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/report/page.h"
#include "braid/report/report.h"
#include "braid/report/svg.h"
#include "braid/report/units.h"

namespace braid {
namespace {

constexpr size_t kPlottedPoints = 400;

// Means of equal groups of points, so that a long run stays a small file and noise does not hide
// the curve.
std::vector<std::pair<double, double>> thinned(const std::vector<LossPoint>& points) {
  const size_t group = (points.size() + kPlottedPoints - 1) / kPlottedPoints;
  std::vector<std::pair<double, double>> out;
  for (size_t i = 0; i < points.size(); i += group) {
    const size_t n = std::min(group, points.size() - i);
    double step = 0, bits = 0;
    for (size_t j = i; j < i + n; ++j) {
      step += static_cast<double>(points[j].step);
      bits += points[j].bits_per_byte;
    }
    out.emplace_back(step / static_cast<double>(n), bits / static_cast<double>(n));
  }
  return out;
}

std::string header(const RunReport& r) {
  std::string out = "<h1>A braid, trained and measured</h1>\n";
  out += format("<p><code>{}</code><br>with <code>{}</code> residuals</p>\n", markup_text(r.stack),
                markup_text(r.residual));
  out += "<dl class=\"facts\">\n";
  out += html_fact("Parameters", count_text(static_cast<double>(r.parameters)));
  out += html_fact("Width", format("{}", r.width));
  out += html_fact("Training", format("{} steps in {}", r.steps, duration_text(r.seconds)));
  out += html_fact("Tokens", count_text(static_cast<double>(r.tokens)));
  out += html_fact("Speed", format("{} tokens/s", count_text(r.tokens_per_second)));
  if (r.share_of_peak > 0) {
    out += html_fact("Share of f32 peak", format("{:.0f} %", r.share_of_peak * 100));
  }
  if (!r.auxiliary.empty()) out += html_fact("Auxiliary losses", auxiliary_text(r));
  return out + "</dl>\n";
}

// Horizontal bars: the model and the two compressors.
std::string bits_bars(const RunReport& r) {
  struct Bar {
    const char* name;
    double bits;
    const char* css;
  };
  const Bar bars[] = {{"this model", r.validation_bpb, "bar s1"},
                      {"xz -9", r.xz_bpb, "bar"},
                      {"gzip -9", r.gzip_bpb, "bar"}};
  const double most = std::max({r.validation_bpb, r.gzip_bpb, r.xz_bpb, 1e-9});
  constexpr double kName = 92, kWidth = 560, kValue = 60, kRow = 34;
  std::string out = format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Bits per byte\">\n", kWidth, 3 * kRow);
  double y = 0;
  for (const Bar& b : bars) {
    const double length = std::max(1.0, b.bits / most * (kWidth - kName - kValue));
    out += format("<text x=\"0\" y=\"{}\" class=\"label\">{}</text>\n", y + 21, b.name);
    out +=
        format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"20\" rx=\"3\" class=\"{}\"/>\n",
               kName, y + 6, length, b.css);
    out += format("<text x=\"{:.1f}\" y=\"{}\" class=\"value\">{:.3f}</text>\n", kName + length + 8,
                  y + 21, b.bits);
    y += kRow;
  }
  return out + "</svg>\n";
}

std::string bits_section(const RunReport& r) {
  std::string out = "<section>\n<h2>Bits per byte of text it has not seen</h2>\n";
  out += format(
      "<p class=\"lead\">The same {} of <code>{}</code>, held out of training, through the model "
      "and through two compressors. Lower is better.</p>\n",
      bytes_text(static_cast<double>(r.held_out_bytes)), markup_text(r.data));
  return out + "<div class=\"bars\">" + bits_bars(r) + "</div>\n</section>\n";
}

std::string loss_section(const RunReport& r) {
  if (r.training.empty() && r.validation.empty()) return "";
  Plot plot;
  plot.description = "Bits per byte over training steps";
  plot.width = 980;
  plot.height = 340;
  plot.x.from_zero = plot.x.tight = true;
  plot.x.label = "step";
  plot.y.label = "bits per byte";
  plot.y.from_zero = true;
  if (!r.training.empty()) {
    plot.series.push_back({.label = "training",
                           .colour = 1,
                           .faint = true,
                           .points = thinned(r.training),
                           .notes = {}});
  }
  if (!r.validation.empty()) {
    PlotSeries s{.label = "held out", .colour = 2, .markers = true, .points = {}, .notes = {}};
    for (const LossPoint& p : r.validation) {
      s.points.emplace_back(static_cast<double>(p.step), p.bits_per_byte);
      s.notes.push_back(format("step {}: {:.3f} bits per byte", p.step, p.bits_per_byte));
    }
    plot.series.push_back(std::move(s));
  }
  if (r.gzip_bpb > 0) plot.levels.push_back({format("gzip -9: {:.2f}", r.gzip_bpb), r.gzip_bpb});
  if (r.xz_bpb > 0) plot.levels.push_back({format("xz -9: {:.2f}", r.xz_bpb), r.xz_bpb});
  return "<section>\n<h2>Loss</h2>\n" + svg_plot(plot) + "</section>\n";
}

// Ticks within the values of all rows.
std::vector<PlotTick> state_ticks(const RunReport& r) {
  double low = INFINITY, high = 0;
  for (const StackCost& c : r.costs) {
    for (const ContextCost& row : c.rows) {
      low = std::min(low, static_cast<double>(row.state_bytes));
      high = std::max(high, static_cast<double>(row.state_bytes));
    }
  }
  return byte_ticks(low, high);
}

Plot cost_plot(const RunReport& r, bool bytes) {
  Plot plot;
  plot.description = bytes ? "Bytes of state by context" : "Milliseconds per token by context";
  plot.x.label = "tokens of context";
  plot.x.log = true;
  plot.y.label = bytes ? "bytes of state" : "ms per token";
  plot.y.log = bytes;
  plot.y.from_zero = !bytes;
  if (bytes) plot.y.ticks = state_ticks(r);
  int colour = 1;
  for (const StackCost& c : r.costs) {
    PlotSeries s{.label = c.label, .colour = colour++, .markers = true, .points = {}, .notes = {}};
    for (const ContextCost& row : c.rows) {
      const double x = static_cast<double>(row.context);
      s.points.emplace_back(x, bytes ? static_cast<double>(row.state_bytes) : row.ms);
      s.notes.push_back(format(
          "{}, {} tokens: {}", c.label, context_text(row.context),
          bytes ? bytes_text(static_cast<double>(row.state_bytes)) : format("{:.3f} ms", row.ms)));
      const auto same = [&](const PlotTick& t) { return t.at == x; };
      if (std::none_of(plot.x.ticks.begin(), plot.x.ticks.end(), same)) {
        plot.x.ticks.push_back({x, context_text(row.context)});
      }
    }
    plot.series.push_back(std::move(s));
  }
  return plot;
}

std::string cost_rows(const RunReport& r) {
  std::string out = "<div class=\"scroll\"><table>\n<tr><th>context</th>";
  size_t rows = 0;
  for (const StackCost& c : r.costs) {
    out += format("<th>{}, ms</th><th>{}, state</th>", markup_text(c.label), markup_text(c.label));
    rows = std::max(rows, c.rows.size());
  }
  out += "</tr>\n";
  for (size_t i = 0; i < rows; ++i) {
    std::string context = "", cells;
    for (const StackCost& c : r.costs) {
      if (i >= c.rows.size()) {
        cells += "<td>-</td><td>-</td>";
        continue;
      }
      context = context_text(c.rows[i].context);
      cells += format("<td>{:.3f}</td><td>{}</td>", c.rows[i].ms,
                      bytes_text(static_cast<double>(c.rows[i].state_bytes)));
    }
    out += format("<tr><td>{}</td>{}</tr>\n", context, cells);
  }
  return out + "</table></div>\n";
}

std::string cost_section(const RunReport& r) {
  if (r.costs.empty()) return "";
  std::string out = "<section>\n<h2>What one more token costs</h2>\n<p class=\"lead\">";
  for (const StackCost& c : r.costs) {
    out += format("{}: <code>{}</code>. ", markup_text(c.label), markup_text(c.stack));
  }
  out +=
      "These rows are of untrained weights and a filled-in context: what the state holds does not "
      "change what reading it costs.</p>\n<div class=\"pair\">\n";
  out += "<div><h3>Time</h3>" + svg_plot(cost_plot(r, false)) + "</div>\n";
  out += "<div><h3>Memory of one sequence</h3>" + svg_plot(cost_plot(r, true)) + "</div>\n</div>\n";
  return out + cost_rows(r) + "</section>\n";
}

std::string sample_section(const RunReport& r) {
  if (r.sample.empty()) return "";
  return format("<section>\n<h2>What it writes</h2>\n<pre><b>{}</b>{}</pre>\n</section>\n",
                markup_text(r.prompt), markup_text(r.sample));
}

std::string machine_section(const RunReport& r) {
  std::string out = "<section>\n<h2>Measured on</h2>\n<dl class=\"facts\">\n";
  out += html_fact("Processor", r.machine);
  if (r.peak_gflops > 0)
    out += html_fact("f32 product peak", format("{:.0f} GFLOP/s", r.peak_gflops));
  if (r.read_gbs > 0) out += html_fact("Memory read", format("{:.1f} GB/s", r.read_gbs));
  out += html_fact("Training text", bytes_text(static_cast<double>(r.train_bytes)));
  return out + "</dl>\n</section>\n";
}

}  // namespace

std::string report_html(const RunReport& r) {
  return html_page("braid report", header(r) + bits_section(r) + loss_section(r) + cost_section(r) +
                                       sample_section(r) + machine_section(r));
}

}  // namespace braid

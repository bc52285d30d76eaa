#include "braid/report/svg.h"

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/report/units.h"

namespace braid {
namespace {

constexpr double kLeft = 64, kRight = 18, kTop = 34, kBottom = 48;
constexpr double kLegendSwatch = 18, kCharWidth = 6.6;

// Values of one axis to the pixels between `from` and `to`.
struct Scale {
  double low = 0, high = 1, from = 0, to = 1;
  bool log = false;

  double operator()(double v) const {
    const double a = log ? std::log(low) : low, b = log ? std::log(high) : high;
    return from + ((log ? std::log(v) : v) - a) / (b - a) * (to - from);
  }
};

// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
double round_step(double rough) {
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (double m : {1.0, 2.0, 5.0}) {
    if (m * power >= rough * (1 - 1e-9)) return m * power;
  }
  return 10 * power;
}

std::string number_text(double v) {
  if (std::abs(v) >= 1e6) return format("{:g}M", v / 1e6);
  if (std::abs(v) >= 1e4) return format("{:g}k", v / 1e3);
  if (v != 0 && std::abs(v) < 1e-3) return format("{:g}", v);
  return format("{:g}", std::round(v * 1e6) / 1e6 + 0.0);
}

std::vector<PlotTick> linear_ticks(double low, double high) {
  const double step = round_step((high - low) / 6);
  std::vector<PlotTick> ticks;
  for (double i = std::ceil(low / step - 1e-9) + 0.0; i * step <= high + step * 1e-9; ++i) {
    ticks.push_back({i * step + 0.0, number_text(i * step)});
  }
  return ticks;
}

// Powers of ten, with 2 and 5 between them where there would be few; the first and the last hold
// the values between them.
std::vector<PlotTick> log_ticks(double low, double high) {
  const bool few = std::log10(high / low) < 2.2;
  std::vector<double> at;
  for (double p = std::floor(std::log10(low)); p <= std::ceil(std::log10(high)); ++p) {
    for (const double m : {1.0, 2.0, 5.0}) {
      if (m == 1 || few) at.push_back(m * std::pow(10, p));
    }
  }
  while (at.size() > 2 && at[1] <= low) at.erase(at.begin());
  while (at.size() > 2 && at[at.size() - 2] >= high) at.pop_back();
  std::vector<PlotTick> ticks;
  for (const double v : at) ticks.push_back({v, number_text(v)});
  return ticks;
}

// The axis's range and, when none are given, its ticks.
Scale fit(PlotAxis& axis, std::vector<double> values) {
  for (const PlotTick& t : axis.ticks) values.push_back(t.at);
  std::erase_if(values, [&](double v) { return !std::isfinite(v) || (axis.log && v <= 0); });
  Scale s;
  s.log = axis.log;
  if (values.empty()) values = {axis.log ? 1.0 : 0.0, axis.log ? 10.0 : 1.0};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  s.low = axis.from_zero ? std::min(0.0, *low) : *low;
  s.high = *high;
  if (s.low == s.high) {
    s.low = axis.log ? s.low / 2 : s.low - 0.5;
    s.high = axis.log ? s.high * 2 : s.high + 0.5;
  }
  if (!axis.ticks.empty()) return s;
  if (axis.log) {
    axis.ticks = log_ticks(s.low, s.high);
  } else {
    const double step = round_step((s.high - s.low) / 6);
    if (!axis.tight) {
      s.low = std::floor(s.low / step + 1e-9) * step;
      s.high = std::ceil(s.high / step - 1e-9) * step;
    }
    axis.ticks = linear_ticks(s.low, s.high);
  }
  if (axis.log) {
    s.low = axis.ticks.front().at;
    s.high = axis.ticks.back().at;
  }
  return s;
}

// A power of two of bytes without decimals.
std::string power_of_two_text(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return format("{:g} {}", bytes, units[unit]);
}

std::string text_at(double x, double y, const char* anchor, const char* css,
                    std::string_view text) {
  return format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y,
                anchor, css, markup_text(text));
}

std::string axes(const Plot& plot, const PlotAxis& x_axis, const PlotAxis& y_axis, const Scale& x,
                 const Scale& y) {
  std::string out;
  for (const PlotTick& t : y_axis.ticks) {
    out +=
        format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n",
               x.from, x.to, y(t.at), y(t.at));
    out += text_at(x.from - 8, y(t.at) + 4, "end", "tick", t.text);
  }
  for (const PlotTick& t : x_axis.ticks) {
    out +=
        format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"axis\"/>\n",
               x(t.at), x(t.at), y.from, y.from + 5);
    out += text_at(x(t.at), y.from + 19, "middle", "tick", t.text);
  }
  out += format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"axis\"/>\n",
                x.from, x.to, y.from, y.from);
  out += text_at((x.from + x.to) / 2, plot.height - 8, "middle", "label", x_axis.label);
  out += text_at(4, 14, "start", "label", y_axis.label);
  return out;
}

int css_colour(int colour) { return (colour - 1) % kPlotColours + 1; }

std::string series_band(const PlotSeries& s, const Scale& x, const Scale& y) {
  std::string above, below;
  for (const PlotRange& r : s.band) {
    if (!std::isfinite(r.x) || !std::isfinite(r.low) || !std::isfinite(r.high)) continue;
    if ((x.log && r.x <= 0) || (y.log && r.low <= 0)) continue;
    above += format("{}{:.1f} {:.1f}", above.empty() ? "M" : " L", x(r.x), y(r.high));
    below = format(" L{:.1f} {:.1f}", x(r.x), y(r.low)) + below;
  }
  if (above.empty()) return "";
  return format("<path d=\"{}{} Z\" class=\"band s{}\"/>\n", above, below, css_colour(s.colour));
}

std::string series_path(const PlotSeries& s, const Scale& x, const Scale& y) {
  std::string path, marks;
  for (size_t i = 0; i < s.points.size(); ++i) {
    const auto [px, py] = s.points[i];
    if (!std::isfinite(px) || !std::isfinite(py) || (x.log && px <= 0) || (y.log && py <= 0)) {
      continue;
    }
    path += format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", x(px), y(py));
    if (!s.markers) continue;
    const std::string note =
        i < s.notes.size() ? format("<title>{}</title>", markup_text(s.notes[i])) : "";
    marks += format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"mark s{}\">{}</circle>\n",
                    x(px), y(py), css_colour(s.colour), note);
  }
  return format("<path d=\"{}\" class=\"{}\"/>\n", path, line_class(s)) + marks;
}

// In one row above the plot, right-aligned, where the y axis's label does not reach.
std::string legend(const Plot& plot, const Scale& x) {
  double width = 0;
  for (const PlotSeries& s : plot.series) {
    width += kLegendSwatch + 8 + kCharWidth * static_cast<double>(s.label.size()) + 12;
  }
  double at = x.to - width + 12;
  std::string out;
  for (const PlotSeries& s : plot.series) {
    out += format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"10\" y2=\"10\" class=\"{}\"/>\n", at,
                  at + kLegendSwatch, line_class(s));
    out += text_at(at + kLegendSwatch + 6, 14, "start", "label", s.label);
    at += kLegendSwatch + 8 + kCharWidth * static_cast<double>(s.label.size()) + 12;
  }
  return out;
}

}  // namespace

std::string svg_plot(const Plot& plot) {
  std::vector<double> xs, ys;
  for (const PlotSeries& s : plot.series) {
    for (const auto& [px, py] : s.points) {
      xs.push_back(px);
      ys.push_back(py);
    }
    for (const PlotRange& r : s.band) {
      ys.push_back(r.low);
      ys.push_back(r.high);
    }
  }
  for (const PlotLevel& l : plot.levels) ys.push_back(l.y);
  PlotAxis x_axis = plot.x, y_axis = plot.y;
  Scale x = fit(x_axis, std::move(xs)), y = fit(y_axis, std::move(ys));
  x.from = kLeft;
  x.to = plot.width - kRight;
  y.from = plot.height - kBottom;
  y.to = kTop;

  std::string out = format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                           plot.width, plot.height, markup_text(plot.description));
  out += axes(plot, x_axis, y_axis, x, y);
  for (const PlotLevel& l : plot.levels) {
    out +=
        format("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"level\"/>\n",
               x.from, x.to, y(l.y), y(l.y));
    out += text_at(x.to, y(l.y) - 5, "end", "tick", l.label);
  }
  for (const PlotSeries& s : plot.series) out += series_band(s, x, y);
  for (const PlotSeries& s : plot.series) out += series_path(s, x, y);
  if (plot.legend && plot.series.size() > 1) out += legend(plot, x);
  return out + "</svg>\n";
}

std::string line_class(const PlotSeries& s) {
  return format("line s{}{}{}", css_colour(s.colour), s.faint ? " faint" : "",
                s.colour > kPlotColours ? " dash" : "");
}

std::vector<PlotTick> byte_ticks(double low, double high) {
  std::vector<PlotTick> ticks;
  if (!(low > 0) || !(high >= low)) return ticks;
  double at = std::pow(4, std::floor(std::log2(low) / 2));
  ticks.push_back({at, power_of_two_text(at)});
  while (at < high) {
    at *= 4;
    ticks.push_back({at, power_of_two_text(at)});
  }
  return ticks;
}

std::vector<PlotTick> length_ticks(std::span<const int64_t> lengths) {
  std::vector<PlotTick> ticks;
  for (const int64_t n : lengths) ticks.push_back({static_cast<double>(n), context_text(n)});
  return ticks;
}

std::string markup_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

}  // namespace braid

#pragma once
// Small line plots as inline SVG. Colours are the CSS variables --series-1 to --series-8,
// --ink, --muted and --rule of the page, so that one picture serves light and dark.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

struct PlotTick {
  double at;
  std::string text;
};

struct PlotAxis {
  std::string label;  // with its unit
  bool log = false;   // values must be > 0
  // Empty: chosen here. Given ones also widen the range to hold them.
  std::vector<PlotTick> ticks;
  bool from_zero = false;
  bool tight = false;  // ends at the last value, not at the next round number
};

constexpr int kPlotColours = 8;

// A range of y at x.
struct PlotRange {
  double x, low, high;
};

struct PlotSeries {
  std::string label;
  int colour = 1;  // from 1; above kPlotColours they come again, dashed
  bool faint = false;
  bool markers = false;
  std::vector<std::pair<double, double>> points;  // not finite ones are left out
  std::vector<std::string> notes;                 // shown on hover, one a point; may be empty
  std::vector<PlotRange> band = {};               // filled behind the line
};

// A dashed horizontal line with its label.
struct PlotLevel {
  std::string label;
  double y;
};

struct Plot {
  std::string description;  // for those who cannot see it
  PlotAxis x, y;
  std::vector<PlotSeries> series;
  std::vector<PlotLevel> levels;
  double width = 480, height = 300;
  bool legend = true;  // in the picture; false where html_key() stands beside it
};

std::string svg_plot(const Plot& plot);
// CSS classes of a series' line.
std::string line_class(const PlotSeries& series);

// Ticks for an axis of bytes: powers of four from below `low` to above `high`; none unless
// 0 < low <= high.
std::vector<PlotTick> byte_ticks(double low, double high);
// One tick a length, as people say it.
std::vector<PlotTick> length_ticks(std::span<const int64_t> lengths);

// Text made safe inside HTML and SVG elements and attributes; control characters are left out.
std::string markup_text(std::string_view text);

}  // namespace braid

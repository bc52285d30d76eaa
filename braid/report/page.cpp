#include "braid/report/page.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/report/units.h"

namespace braid {
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --page: #fbfaf8; --card: #ffffff; --ink: #1d1c1a;
  --muted: #6b6862; --rule: #e4e1db; 
  --series-1: #1f6fd1; --series-2: #d9581c; --series-3: #2b8a3e; --series-4: #8b3fc7;
  --series-5: #a87900; --series-6: #0b7285; --series-7: #c2255c; --series-8: #5c5f66; }
@media (prefers-color-scheme: dark) { :root { --page: #161614; --card: #1f1e1c; --ink: #eceae5;
  --muted: #a19d95; --rule: #383632; 
  --series-1: #5b9df0; --series-2: #f08a52; --series-3: #5fc977; --series-4: #b98af0;
  --series-5: #e0b84a; --series-6: #4cc3d9; --series-7: #f0709f; --series-8: #a5a9b0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 12px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 92ch; }
.bars { max-width: 620px; }
.scroll { margin-top: 18px; }
p.lead { color: var(--muted); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 20px 22px; margin-top: 20px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 12px 28px; }
h3 { font-size: 15px; margin: 14px 0 2px; }
code, pre { font: 14px/1.5 ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
pre b { color: var(--series-1); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { font-weight: 600; font-size: 14px; color: var(--muted); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { border-bottom: 0; }
.facts { display: flex; flex-wrap: wrap; gap: 6px 32px; margin: 0; }
.facts div { display: flex; flex-direction: column; }
.facts dt { color: var(--muted); font-size: 13px; }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--muted); font-size: 12px; }
svg text.label { fill: var(--ink); font-size: 12.5px; }
svg text.value { fill: var(--ink); font-size: 14px; font-weight: 600; }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--muted); stroke-width: 1; }
.level { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.faint { stroke-width: 1.2; opacity: 0.75; }
.mark { stroke: var(--card); stroke-width: 1.5; }
.line.dash { stroke-dasharray: 6 4; }
.band { stroke: none; opacity: 0.16; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 22px; margin: 4px 0 10px; padding: 0; }
.key li { display: flex; align-items: center; gap: 8px; }
.key svg { width: 22px; height: 10px; flex: none; }
th.text { text-align: left; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 22ch; }
@media print { section { break-inside: avoid; } }
.bar { fill: var(--muted); opacity: 0.45; } .bar.s1 { fill: var(--series-1); opacity: 1; }
.line.s1 { stroke: var(--series-1); } .mark.s1, .band.s1 { fill: var(--series-1); }
.line.s2 { stroke: var(--series-2); } .mark.s2, .band.s2 { fill: var(--series-2); }
.line.s3 { stroke: var(--series-3); } .mark.s3, .band.s3 { fill: var(--series-3); }
.line.s4 { stroke: var(--series-4); } .mark.s4, .band.s4 { fill: var(--series-4); }
.line.s5 { stroke: var(--series-5); } .mark.s5, .band.s5 { fill: var(--series-5); }
.line.s6 { stroke: var(--series-6); } .mark.s6, .band.s6 { fill: var(--series-6); }
.line.s7 { stroke: var(--series-7); } .mark.s7, .band.s7 { fill: var(--series-7); }
.line.s8 { stroke: var(--series-8); } .mark.s8, .band.s8 { fill: var(--series-8); }
)css";

}  // namespace

std::string html_page(std::string_view title, std::string_view body) {
  std::string out = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += format("<title>{}</title>\n<style>", markup_text(title));
  out += kStyle;
  out += "</style>\n</head>\n<body>\n<main>\n";
  out += body;
  return out + "</main>\n</body>\n</html>\n";
}

std::string html_fact(std::string_view name, std::string_view value) {
  return format("<div><dt>{}</dt><dd>{}</dd></div>\n", markup_text(name), markup_text(value));
}

std::string html_key(std::span<const PlotSeries> series) {
  std::string out = "<ul class=\"key\">\n";
  for (const PlotSeries& s : series) {
    out += format(
        "<li><svg viewBox=\"0 0 22 10\" aria-hidden=\"true\"><line x1=\"1\" x2=\"21\" y1=\"5\" "
        "y2=\"5\" class=\"{}\"/></svg><code>{}</code></li>\n",
        line_class(s), markup_text(s.label));
  }
  return out + "</ul>\n";
}

std::string html_table(std::span<const std::vector<std::string>> rows,
                       std::span<const size_t> text_columns) {
  std::string out = "<div class=\"scroll\"><table>\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    out += "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const bool text =
          std::find(text_columns.begin(), text_columns.end(), c) != text_columns.end();
      const char* tag = r == 0 ? "th" : "td";
      out +=
          format("<{}{}>{}</{}>", tag, text ? " class=\"text\"" : "", markup_text(rows[r][c]), tag);
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace braid

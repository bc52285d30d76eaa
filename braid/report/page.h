#pragma once
// What the HTML pages share: frame and style (light and dark, nothing from outside), facts, tables
// and the key of a plot.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/report/svg.h"

namespace braid {

// A whole page; `title` is text, `body` markup.
std::string html_page(std::string_view title, std::string_view body);
// One entry of a <dl class="facts">.
std::string html_fact(std::string_view name, std::string_view value);
// Colours and labels of the lines, for plots whose labels are too long for the picture.
std::string html_key(std::span<const PlotSeries> series);
// Rows of text, the first one is the head; `text_columns` are left-aligned and may wrap.
std::string html_table(std::span<const std::vector<std::string>> rows,
                       std::span<const size_t> text_columns = {});

}  // namespace braid

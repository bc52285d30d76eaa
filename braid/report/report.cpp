#include "braid/report/report.h"

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/report/units.h"

namespace braid {
namespace {

Json points_json(const std::vector<LossPoint>& points) {
  Json list = Json::array();
  for (const LossPoint& p : points) {
    list.push(Json::object({{"step", p.step}, {"bits_per_byte", p.bits_per_byte}}));
  }
  return list;
}

Json cost_json(const StackCost& cost) {
  Json rows = Json::array();
  for (const ContextCost& r : cost.rows) {
    rows.push(Json::object(
        {{"context", r.context}, {"ms_per_token", r.ms}, {"state_bytes", r.state_bytes}}));
  }
  return Json::object({{"label", cost.label}, {"stack", cost.stack}, {"rows", rows}});
}

std::string cost_table(const RunReport& r) {
  std::string head = format("  {:>8}", "context"), below = format("  {:>8}", "");
  size_t rows = 0;
  for (const StackCost& c : r.costs) {
    head += format("  {:>24}", c.label);
    below += format("  {:>10}  {:>12}", "ms/token", "state");
    rows = std::max(rows, c.rows.size());
  }
  std::string out = head + "\n" + below + "\n";
  for (size_t i = 0; i < rows; ++i) {
    std::string line;
    for (const StackCost& c : r.costs) {
      if (i >= c.rows.size()) {
        line += format("  {:>10}  {:>12}", "-", "-");
        continue;
      }
      const ContextCost& row = c.rows[i];
      if (line.empty()) line = format("  {:>8}", context_text(row.context));
      line +=
          format("  {:>10.3f}  {:>12}", row.ms, bytes_text(static_cast<double>(row.state_bytes)));
    }
    out += line + "\n";
  }
  return out;
}

}  // namespace

std::string auxiliary_text(const RunReport& r) {
  std::string out;
  for (const AuxiliaryLoss& a : r.auxiliary)
    out +=
        format("{}{} {:.4g} (at first {:.4g})", out.empty() ? "" : ", ", a.name, a.last, a.first);
  return out;
}

Json report_json(const RunReport& r) {
  Json auxiliary = Json::object({});
  for (const AuxiliaryLoss& a : r.auxiliary)
    auxiliary.set(a.name, Json::object({{"first", a.first}, {"last", a.last}}));
  Json costs = Json::array();
  for (const StackCost& c : r.costs) costs.push(cost_json(c));
  return Json::object({
      {"model", Json::object({{"stack", r.stack},
                              {"residual", r.residual},
                              {"width", r.width},
                              {"parameters", r.parameters}})},
      {"data", Json::object({{"path", r.data},
                             {"train_bytes", r.train_bytes},
                             {"held_out_bytes", r.held_out_bytes}})},
      {"training", Json::object({{"steps", r.steps},
                                 {"tokens", r.tokens},
                                 {"seconds", r.seconds},
                                 {"tokens_per_second", r.tokens_per_second},
                                 {"share_of_peak", r.share_of_peak}})},
      {"machine", Json::object({{"processor", r.machine},
                                {"peak_gflops", r.peak_gflops},
                                {"memory_read_gbs", r.read_gbs}})},
      {"held_out_bits_per_byte",
       Json::object({{"model", r.validation_bpb}, {"gzip_9", r.gzip_bpb}, {"xz_9", r.xz_bpb}})},
      {"loss", Json::object({{"training", points_json(r.training)},
                             {"validation", points_json(r.validation)},
                             {"auxiliary", std::move(auxiliary)}})},
      {"sample", Json::object({{"prompt", r.prompt}, {"text", r.sample}})},
      {"decode_cost_untrained", costs},
  });
}

std::string report_table(const RunReport& r) {
  std::string out = format("\n  {} + {}, width {}, {} parameters\n", r.stack, r.residual, r.width,
                           count_text(static_cast<double>(r.parameters)));
  out += format("  {} steps, {} tokens in {} ({} tokens/s", r.steps,
                count_text(static_cast<double>(r.tokens)), duration_text(r.seconds),
                count_text(r.tokens_per_second));
  if (r.share_of_peak > 0) out += format(", {:.0f} % of the f32 peak", r.share_of_peak * 100);
  out += ")\n";
  if (!r.auxiliary.empty()) out += format("  auxiliary losses: {}\n", auxiliary_text(r));
  out += format("\n  bits per byte of {} of held-out text\n",
                bytes_text(static_cast<double>(r.held_out_bytes)));
  out += format("    {:<12} {:>7.3f}\n", "this model", r.validation_bpb);
  out += format("    {:<12} {:>7.3f}\n", "gzip -9", r.gzip_bpb);
  out += format("    {:<12} {:>7.3f}\n\n", "xz -9", r.xz_bpb);
  if (!r.costs.empty()) {
    out += "  one more token after a context of that length, untrained weights of the same size\n";
    out += cost_table(r);
  }
  return out;
}

void write_report(const RunReport& report, const std::string& folder) {
  make_folders(folder);
  write_file(join_path(folder, "report.json"), report_json(report).dump_pretty());
  write_file(join_path(folder, "report.html"), report_html(report));
}

}  // namespace braid

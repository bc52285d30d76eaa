#include "braid/train/run_log.h"

#include "braid/train/run.h"

namespace braid {

RunLog::RunLog(const std::string& run_folder, int64_t resumed_step)
    : lines_(join_path(run_folder, "log.jsonl"), resumed_step > 0 ? resumed_step : -1),
      events_(run_folder, resumed_step > 0 ? resumed_step : -1) {}

Json losses_json(const Tape::Losses& losses) {
  Json out = Json::object({});
  for (const auto& [name, value] : losses) out.set(name, value);
  return out;
}

void RunLog::step(const RunProgress& p, double seconds, int64_t targets) {
  Json line = Json::object({{"event", "step"},
                            {"step", p.step},
                            {"loss", p.loss},
                            {"bpb", p.bpb},
                            {"grad_norm", p.grad_norm},
                            {"lr_scale", p.lr_scale},
                            {"applied", p.applied},
                            {"tokens", targets},
                            {"seconds", seconds},
                            {"gflops", p.gflops}});
  if (!p.auxiliary.empty()) line.set("auxiliary", losses_json(p.auxiliary));
  lines_.write(line);
  std::vector<Scalar> scalars = {
      {"loss/train", p.loss},
      {"bpb/train", p.bpb},
      {"optim/grad_norm", p.grad_norm},
      {"optim/lr_scale", p.lr_scale},
      {"speed/tokens_per_second", static_cast<double>(targets) / seconds},
      {"speed/gflops", p.gflops}};
  std::vector<std::string> tags;
  for (const auto& [name, value] : p.auxiliary) tags.push_back("loss/" + name);
  for (auto tag = tags.begin(); const auto& [name, value] : p.auxiliary)
    scalars.push_back({*tag++, value});
  events_.write(p.step, scalars);
}

void RunLog::evaluation(const RunProgress& p, const Evaluation& e) {
  const double bpb = e.bits_per_byte();
  lines_.write(Json::object(
      {{"event", "validation"}, {"step", p.step}, {"bpb", bpb}, {"tokens", e.targets}}));
  const Scalar scalars[] = {{"bpb/validation", bpb}};
  events_.write(p.step, scalars);
}

}  // namespace braid

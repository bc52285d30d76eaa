#include "braid/compare/identity.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/train/run.h"

namespace braid {
namespace {

constexpr const char* kFile = "comparison.json";
constexpr int kVersion = 2;
constexpr const char* kCommand = "command";  // kept beside the identity, no part of it

void write_comparison(const std::string& path, Json identity, const Json& command) {
  identity.set(kCommand, command);
  write_file(path, identity.dump_pretty());
}

// The keys of model.toml with their values as they are printed there.
Json settings_json(const ComparedStack& s) {
  Json out = Json::object({{"steps", s.budget.steps}, {"seconds", s.budget.seconds}});
  const std::string text = print_settings(s.settings);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const size_t equals = line.find(" = ");
    if (equals == std::string::npos || line.substr(0, equals) == "seed") continue;
    out.set(line.substr(0, equals), line.substr(equals + 3));
  }
  return out;
}

void compare_values(const std::string& path, const Json* there, const Json* here,
                    std::vector<std::string>& out) {
  if (there != nullptr && here != nullptr && there->is_object() && here->is_object()) {
    const auto below = [&](const std::string& key) {
      return path.empty() ? key : path + "." + key;
    };
    for (const Json::Member& m : there->members())
      compare_values(below(m.key), &m.value, here->find(m.key), out);
    for (const Json::Member& m : here->members()) {
      if (there->find(m.key) == nullptr) compare_values(below(m.key), nullptr, &m.value, out);
    }
    return;
  }
  const auto text = [](const Json* value) {
    if (value == nullptr) return std::string("not set");
    if (value->is_string())
      return value->as_string();  // settings stand there as model.toml has them
    return value->is_object() ? std::string("set") : value->dump();
  };
  if (there != nullptr && here != nullptr && *there == *here) return;
  out.push_back(format("{} is {} there and {} here", path, text(there), text(here)));
}

}  // namespace

Json comparison_identity(const CompareConfig& c, const TrainData& data) {
  Json stacks = Json::object();
  for (const ComparedStack& s : c.stacks) stacks.set(s.label, settings_json(s));
  const OptimConfig& o = c.run.optim;
  const Schedule& s = c.run.schedule;
  Json text = data.cursor(0);
  return Json::object(
      {{"version", kVersion},
       {"match", match_name(c.match)},
       {"stacks", stacks},
       {"seeds", c.seeds},
       {"seed", c.first_seed},
       {"data", Json::object({{"digest", text.at("digest")}, {"train_bytes", data.train_bytes()}})},
       {"batch", c.run.batch},
       {"seq_len", c.run.seq_len},
       {"accumulate", c.run.accumulate},
       {"evals", c.points},
       {"eval_tokens", c.run.eval_tokens},
       {"optimizer", o.use_muon ? "muon" : "adamw"},
       {"lr", o.lr},
       {"embedding_lr", o.embedding_lr_ratio},
       {"weight_decay", o.weight_decay},
       {"clip", o.clip_norm},
       {"guard", c.run.guard.factor},
       {"schedule", schedule_name(s.kind)},
       {"warmup", s.warmup_steps},
       {"decay_fraction", s.decay_fraction},
       {"min_lr", s.min_ratio}});
}

std::vector<std::string> differences(const Json& there, const Json& here) {
  std::vector<std::string> out;
  compare_values("", &there, &here, out);
  return out;
}

std::optional<Json> comparison_command(const std::string& folder) {
  const std::string path = join_path(folder, kFile);
  if (!path_exists(path)) return std::nullopt;
  try {
    const Json saved = Json::parse(read_file(path, size_t{1} << 20));
    const Json* command = saved.find(kCommand);  // earlier versions kept none
    return command == nullptr ? std::nullopt : std::optional<Json>(*command);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

void refuse_other_folder(const std::string& folder) {
  if (path_exists(join_path(folder, kFile))) return;
  refuse_other_files(folder, "comparison", {"data", std::string(kFile) + ".tmp-*"});
}

void claim_folder(const CompareConfig& config, const TrainData& data) {
  // Parsed, for a real without a fraction is read back as a whole number.
  const Json here = Json::parse(comparison_identity(config, data).dump());
  const std::string path = join_path(config.out, kFile);
  if (!path_exists(path)) {
    write_comparison(path, here, config.command);
    return;
  }
  std::vector<std::string> differ;
  try {
    const Json saved = Json::parse(read_file(path, size_t{1} << 20));
    Json there = Json::object();
    for (const Json::Member& m : saved.members()) {
      if (m.key != kCommand) there.set(m.key, m.value);
    }
    const bool more = there.at("seeds").as_int() < config.seeds;
    if (more) there.set("seeds", config.seeds);
    differ = differences(there, here);
    if (more && differ.empty()) write_comparison(path, here, config.command);
  } catch (Error& e) {
    throw e.add_context(path);
  }
  if (differ.empty()) return;
  std::string all;
  for (const std::string& d : differ) all += (all.empty() ? "" : "; ") + d;
  throw Error(ErrorKind::kUsage, format("{} holds another comparison: {}; use another --out or the "
                                        "same flags",
                                        config.out, all));
}

}  // namespace braid

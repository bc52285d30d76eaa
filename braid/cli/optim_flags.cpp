#include "braid/cli/optim_flags.h"

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {

void OptimFlags::add(CLI::App& app, RunConfig& run) {
  app.add_option("--optimizer", optimizer, "muon (AdamW for all but matrices) or adamw")
      ->capture_default_str();
  app.add_option("--lr", run.optim.lr, "Peak learning rate")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--embedding-lr", run.optim.embedding_lr_ratio, "Its ratio for embedding and head")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--weight-decay", run.optim.weight_decay, "Of matrices")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--clip", run.optim.clip_norm, "Largest gradient norm; 0 is off")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--guard", run.guard.factor,
                 "Leave out steps whose gradient norm is this many times the median; 0 is off")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--schedule", schedule, "constant, cosine or wsd")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--warmup", run.schedule.warmup_steps, "Steps of linear warm-up")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--decay-fraction", run.schedule.decay_fraction,
                 "Share of the run in which wsd decays")
      ->capture_default_str()
      ->group("Optimizer");
  app.add_option("--min-lr", run.schedule.min_ratio, "Final learning rate as a share of the peak")
      ->capture_default_str()
      ->group("Optimizer");
}

void OptimFlags::apply(RunConfig& run) const {
  run.schedule.kind = parse_schedule(schedule);
  check_schedule(run.schedule);
  check_optim(run.optim);
  if (optimizer != "muon" && optimizer != "adamw") {
    throw Error(ErrorKind::kUsage,
                format("--optimizer is \"{}\"; it must be muon or adamw", optimizer));
  }
  run.optim.use_muon = optimizer == "muon";
}

void add_tokenizer_flag(CLI::App& app, std::string& path) {
  app.add_option("--tokenizer", path,
                 "Train on its tokens instead of bytes: tokenizer.json or a folder that holds one; "
                 "its vocabulary is the model's unless --vocab says more");
}

void add_step_flags(CLI::App& app, RunConfig& run) {
  const auto rows = CLI::Range(int64_t{1}, int64_t{1} << 15);
  app.add_option("--batch", run.batch, "Sequences in a micro-batch")
      ->capture_default_str()
      ->check(rows);
  app.add_option("--seq-len", run.seq_len, "Tokens of each")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("--accumulate", run.accumulate, "Micro-batches a step")
      ->capture_default_str()
      ->check(rows);
  app.add_flag("--recompute", run.recompute,
               "Keep only layer inputs, recompute the rest in backward");
}

}  // namespace braid

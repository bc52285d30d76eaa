// Losses beside the model's own, by name: how they reach whoever watches a run.

#include <doctest/doctest.h>

#include "braid/base/file.h"
#include "braid/testing/scratch_folder.h"
#include "braid/train/run.h"
#include "braid/train/run_log.h"
#include "braid/train/trainer.h"

namespace braid {
namespace {

constexpr const char* kBoth =
    "dsa{index_topk=8,index_head_dim=16,index_n_heads=2,index_loss=0.5}, "
    "moe{experts=4,top_k=2,ffn=16,balance=aux,aux_coef=0.25}";

TrainBatch batch_of(int64_t first, int64_t tokens) {
  TrainBatch b;
  for (int64_t i = first; i < first + tokens; ++i) {
    b.inputs.push_back(static_cast<int32_t>(i * i * 7 % 61));
    b.targets.push_back(static_cast<int32_t>((i + 1) * (i + 1) * 7 % 61));
  }
  b.seq_starts = {0, tokens};
  return b;
}

StepResult first_step(const std::string& stack, const std::vector<TrainBatch>& micro,
                      bool recompute = false) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 32;
  s.head_dim = 16;
  s.vocab = 64;
  const Context ctx;
  Model model(ctx, s);
  model.set_recompute(recompute);
  Trainer trainer(ctx, model, {});
  return trainer.step(ctx, micro, 1.0);
}

}  // namespace

TEST_CASE("a step tells its auxiliary losses, weighted as their gradients are") {
  const StepResult one = first_step(kBoth, {batch_of(0, 40)});
  REQUIRE(one.auxiliary.size() == 2);
  CHECK(one.auxiliary.at("index") > 0);
  // Coefficient times top_k where all experts are sent as much.
  CHECK(one.auxiliary.at("balance") > 0.49);
  CHECK(one.auxiliary.at("balance") < 0.25 * 4);
  const StepResult again = first_step(kBoth, {batch_of(0, 40), batch_of(0, 40)});
  CHECK(again.auxiliary.at("index") == doctest::Approx(one.auxiliary.at("index")));
  CHECK(again.auxiliary.at("balance") == doctest::Approx(one.auxiliary.at("balance")));
  const StepResult recomputed = first_step(kBoth, {batch_of(0, 40)}, true);
  CHECK(recomputed.auxiliary == one.auxiliary);
  const StepResult two = first_step(std::string("2 x (") + kBoth + ")", {batch_of(0, 40)});
  CHECK(two.auxiliary.at("balance") > 1.9 * 0.49);
  CHECK(first_step("gqa, moe{experts=4,top_k=2,ffn=16}", {batch_of(0, 40)}).auxiliary.empty());
}

TEST_CASE("auxiliary losses are in the log of a run, and not where there are none") {
  const testing::ScratchFolder folder("auxiliary");
  RunProgress p;
  p.step = 1;
  {
    RunLog log(folder.path(), 0);
    log.step(p, 1, 1);
    p.step = 2;
    p.auxiliary = {{"balance", 0.25}, {"index", 1.5}};
    log.step(p, 1, 1);
  }
  const std::string text = read_file(join_path(folder.path(), "log.jsonl"));
  const size_t end = text.find('\n');
  CHECK(Json::parse(text.substr(0, end)).find("auxiliary") == nullptr);
  const Json second = Json::parse(text.substr(end + 1, text.size() - end - 2));
  CHECK(second.at("auxiliary").at("index").as_real() == 1.5);
  const std::string events = read_file(join_path(folder.path(), "events.out.tfevents.braid"));
  CHECK(events.find("loss/balance") != std::string::npos);
}

}  // namespace braid

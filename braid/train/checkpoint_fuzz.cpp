// One file of a good checkpoint is replaced by the input, or edited by it: a run either resumes
// from it or says what is wrong.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/testing/fuzz_edit.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"
#include "braid/train/checkpoint.h"

namespace braid {
namespace {

constexpr const char* kFiles[] = {"model.toml", "weights.safetensors",
                                  "train/optimizer.safetensors", "train/state.json",
                                  "manifest.json"};

class Run {
 public:
  Run() {
    parameters_.add("w", ParamRole::kMatrix, Tensor::zeros(ctx_, {2, 3}));
    parameters_.allocate_grads(ctx_);
    optimizer_.emplace(ctx_, parameters_, OptimConfig{});
    save_checkpoint(folder_, 1, ModelSettings{}, parameters_, *optimizer_,
                    Json::object({{"step", 1}}), 1);
  }
  void edit_and_load(testing::FuzzInput& input) {
    const size_t what = input.byte();
    const std::string path = join_path(step_, kFiles[what % std::size(kFiles)]);
    const std::string good = read_file(path);
    std::string bytes = good;
    if (what < 128) bytes = input.text(SIZE_MAX);
    while (!input.empty()) testing::edit(input, bytes);
    write_file(path, bytes);
    load();
    write_file(path, good);
  }

 private:
  void load() {
    try {
      find_checkpoint(folder_, [](const std::string&) {});
    } catch (const Error& e) {
      testing::expect(e);
    }
    // Past the digests too: a file that was damaged before it was digested.
    try {
      load_checkpoint(ctx_, {step_, 1}, parameters_, *optimizer_);
      parse_settings(read_file(join_path(step_, kFiles[0])));
    } catch (const Error& e) {
      testing::expect(e, {ErrorKind::kBadInput, ErrorKind::kUsage});
    }
  }

  Context ctx_{.threads = 1};
  testing::FuzzFolder scratch_{"checkpoint"};
  std::string folder_ = scratch_.path();
  std::string step_ = join_path(folder_, "checkpoints/step-1");
  ParameterSet parameters_;
  std::optional<Optimizer> optimizer_;
};

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static braid::Run run;
  braid::testing::FuzzInput input(data, size);
  run.edit_and_load(input);
  return 0;
}

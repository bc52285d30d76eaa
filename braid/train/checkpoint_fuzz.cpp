// One file of a good checkpoint is replaced by the input: a run either resumes from it or says what
// is wrong.

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
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
  ~Run() { remove_folder(folder_); }
  void replace_and_load(size_t which, std::string_view text) {
    const std::string path = join_path(step_, kFiles[which]);
    const std::string good = read_file(path);
    write_file(path, text);
    try {
      find_checkpoint(folder_, [](const std::string&) {});
    } catch (const Error&) {
    }
    // Past the digests too: a file that was damaged before it was digested.
    try {
      load_checkpoint(ctx_, {step_, 1}, parameters_, *optimizer_);
      parse_settings(read_file(join_path(step_, kFiles[0])));
    } catch (const Error&) {
    }
    write_file(path, good);
  }

 private:
  Context ctx_;
  // In memory where possible: on a disk, fsync would be all that is tested.
  std::string folder_ = format("{}/braid-checkpoint-fuzz-{}",
                               ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", ::getpid());
  std::string step_ = join_path(folder_, "checkpoints/step-1");
  ParameterSet parameters_;
  std::optional<Optimizer> optimizer_;
};

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static braid::Run run;
  if (size == 0) return 0;
  run.replace_and_load(data[0] % std::size(braid::kFiles),
                       {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}

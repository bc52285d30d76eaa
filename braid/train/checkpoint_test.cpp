#include "braid/train/checkpoint.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/file_faults.h"
#include "braid/base/format.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

// A run of a model of two parameters whose values say which step they are of.
class Run {
 public:
  Run() {
    parameters_.add("w", ParamRole::kMatrix, Tensor::zeros(ctx_, {2, 3}));
    parameters_.add("g", ParamRole::kVector, Tensor::zeros(ctx_, {2}));
    parameters_.allocate_grads(ctx_);
  }
  void save(int64_t step, int64_t keep = 2) {
    for (Parameter& p : parameters_) {
      for (int64_t i = 0; i < p.value.count(); ++i) p.value.data()[i] = static_cast<float>(step);
    }
    const Optimizer optimizer(ctx_, parameters_, {});
    save_checkpoint(folder_.path(), step, ModelSettings{}, parameters_, optimizer,
                    Json::object({{"step", step}}), keep);
  }
  // The step that a resume would continue from, everything loaded and consistent; -1 when there is
  // none.
  int64_t resume(int* passed_over = nullptr) {
    const auto found = find_checkpoint(folder_.path(), [&](const std::string& line) {
      CHECK(line.find("passed over a damaged checkpoint") == 0);
      if (passed_over != nullptr) ++*passed_over;
    });
    if (!found) return -1;
    Optimizer optimizer(ctx_, parameters_, {});
    const Json state = load_checkpoint(ctx_, *found, parameters_, optimizer);
    CHECK(state.at("step").as_int() == found->step);
    for (const Parameter& p : parameters_)
      CHECK(p.value.data()[1] == static_cast<float>(found->step));
    return found->step;
  }
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string step_path(int64_t step, const std::string& name) const {
    return path(format("checkpoints/step-{}/{}", step, name));
  }
  std::vector<std::string> steps() const { return list_folder(path("checkpoints")); }

 private:
  Context ctx_;
  testing::ScratchFolder folder_{"checkpoint"};
  ParameterSet parameters_;
};

constexpr const char* kAllFiles[] = {"model.toml", "weights.safetensors",
                                     "train/optimizer.safetensors", "train/state.json",
                                     "manifest.json"};

TEST_CASE("the newest is found, the last k are kept, latest points at it") {
  Run run;
  CHECK(run.resume() == -1);
  for (int64_t step = 10; step <= 50; step += 10) run.save(step);
  CHECK(run.steps() == std::vector<std::string>{"step-40", "step-50"});
  CHECK(run.resume() == 50);
  CHECK(read_file(run.path("latest/train/state.json")) ==
        read_file(run.step_path(50, "train/state.json")));
  CHECK(checkpoint_folder(run.path("")) == run.path("latest"));
  CHECK(checkpoint_folder(run.path("latest")) == run.path("latest"));
  run.save(50);  // again at the same step, as Ctrl+C after a regular save does
  CHECK(run.resume() == 50);
  CHECK(run.steps() == std::vector<std::string>{"step-40", "step-50"});
}

TEST_CASE("a checkpoint cut at any byte is seen and the one before is used") {
  Run run;
  run.save(10);
  run.save(20);
  for (const char* name : kAllFiles) {
    const std::string path = run.step_path(20, name), whole = read_file(path);
    for (size_t cut = 0; cut < whole.size(); ++cut) {
      CAPTURE(name);
      CAPTURE(cut);
      write_file(path, whole.substr(0, cut));
      int passed = 0;
      // A manifest that lost only its last newline still says everything.
      const bool harmless = name == std::string("manifest.json") && cut + 1 == whole.size();
      REQUIRE(run.resume(&passed) == (harmless ? 20 : 10));
      REQUIRE(passed == (harmless ? 0 : 1));
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 4);
    write_file(path, flipped);
    CHECK(run.resume() == 10);
    remove_file(path);
    CHECK(run.resume() == 10);
    write_file(path, whole);
    CHECK(run.resume() == 20);
  }
}

TEST_CASE("when none can be used the error lists them all") {
  Run run;
  run.save(10);
  run.save(20);
  for (const int64_t step : {10, 20})
    write_file(run.step_path(step, "weights.safetensors"), "short");
  try {
    run.resume();
    FAIL("resumed");
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    const std::string text = e.what();
    CHECK(text.find("step-10: weights.safetensors has 5 bytes") != text.npos);
    CHECK(text.find("step-20: weights.safetensors has 5 bytes") != text.npos);
  }
}

TEST_CASE("another version is an error, not damage") {
  Run run;
  run.save(10);
  run.save(20);
  std::string manifest = read_file(run.step_path(20, "manifest.json"));
  const std::string key = "\"braid_checkpoint_version\": ";
  manifest[manifest.find(key) + key.size()] = '9';
  write_file(run.step_path(20, "manifest.json"), manifest);
  CHECK_THROWS_WITH_AS(run.resume(), doctest::Contains("step-20: it is a checkpoint of version 9"),
                       Error);
}

TEST_CASE("a damaged newer checkpoint does not crowd out what is saved after resuming") {
  Run run;
  run.save(10, 1);
  run.save(20, 2);
  write_file(run.step_path(20, "weights.safetensors"), "short");
  CHECK(run.resume() == 10);
  run.save(15, 1);
  CHECK(run.steps() == std::vector<std::string>{"step-15"});
  CHECK(run.resume() == 15);
}

TEST_CASE(
    "whatever operation of the disk fails, or the process dies at, a whole checkpoint remains") {
  Run run;
  run.save(10);
  run.save(20);
  FileFaults::arm(FileFaults::Kind::kNone, -1, 0);
  run.save(30);
  const int64_t operations = FileFaults::operations();
  CHECK(operations > 20);
  for (const auto kind :
       {FileFaults::Kind::kFail, FileFaults::Kind::kTear, FileFaults::Kind::kCrash}) {
    for (const int64_t step : {30, 40}) {  // again at the same step, and at a new one
      for (int64_t n = 0; n < operations; ++n) {
        CAPTURE(static_cast<int>(kind));
        CAPTURE(step);
        CAPTURE(n);
        FileFaults::arm(kind, n, ENOSPC);
        bool failed = false;
        try {
          run.save(step, 1);
        } catch (const Error& e) {
          failed = true;
          CHECK(std::string(e.what()).find("No space left on device") != std::string::npos);
        }
        FileFaults::disarm();
        const int64_t at = run.resume();
        CHECK((at == step || at == 30));
        if (!failed) CHECK(at == step);
        if (kind != FileFaults::Kind::kCrash && failed)
          CHECK_FALSE(path_exists(run.path("checkpoints/.unfinished/train")));
        remove_folder(run.path("checkpoints/step-40"));
        run.save(30);
        CHECK(run.resume() == 30);
      }
    }
  }
}

TEST_CASE("an unwritable folder is an error that names it") {
  if (::geteuid() == 0) return;  // root may write anywhere
  Run run;
  run.save(10);
  ::chmod(run.path("checkpoints").c_str(), 0555);
  CHECK_THROWS_WITH_AS(run.save(20), doctest::Contains("Permission denied"), Error);
  ::chmod(run.path("checkpoints").c_str(), 0755);
  CHECK(run.resume() == 10);
}

}  // namespace
}  // namespace braid

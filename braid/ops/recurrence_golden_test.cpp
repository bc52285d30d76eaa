// Runs every op-level file of $BRAID_GOLDEN/recurrence (README there): outputs, final states and
// all gradients.

#include "braid/ops/recurrence.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "braid/base/json.h"

namespace braid {
namespace {

struct File {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;

  bool has(const std::string& name) const { return tensors.count(name) > 0; }
  // [B, T, ...] -> [B * T, ...]: the batch laid end to end.
  Tensor tokens(const std::string& name) const {
    if (!has(name)) return {};
    const Tensor& t = tensors.at(name);
    if (t.rank() < 3) return t;
    if (t.rank() == 3) return t.reshape({t.size(0) * t.size(1), t.size(2)});
    return t.reshape({t.size(0) * t.size(1), t.size(2), t.size(3)});
  }
};

File read(const Context& ctx, const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string header(length, ' ');
  in.read(header.data(), static_cast<std::streamsize>(length));
  std::string data((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  File f;
  const Json parsed = Json::parse(header);
  for (const auto& [name, entry] : parsed.members()) {
    if (name == "__metadata__") {
      for (const Json::Member& m : entry.members()) f.metadata[m.key] = m.value.as_string();
      continue;
    }
    std::vector<int64_t> sizes;
    for (const Json& size : entry.at("shape").elements()) sizes.push_back(size.as_int());
    Tensor t = Tensor::empty(ctx, Shape(std::span<const int64_t>(sizes)));
    const uint64_t begin = entry.at("data_offsets").elements().at(0).as_uint();
    std::memcpy(t.data(), data.data() + begin, t.bytes());
    f.tensors[name] = t;
  }
  return f;
}

bool config_of(const std::string& mixer, RecurrenceConfig& c) {
  using Decay = RecurrenceConfig::Decay;
  using Erase = RecurrenceConfig::Erase;
  struct Row {
    const char* name;
    Decay decay;
    Erase erase;
  };
  static const Row kRows[] = {
      {"gdn", Decay::kScalar, Erase::kBeta},         {"kda", Decay::kVector, Erase::kBeta},
      {"gdn2", Decay::kVector, Erase::kVector},      {"gla", Decay::kVector, Erase::kNone},
      {"deltanet", Decay::kNone, Erase::kBeta},      {"lightning", Decay::kPerHead, Erase::kNone},
      {"retnet", Decay::kPerHead, Erase::kNone},     {"comba", Decay::kScalar, Erase::kKey},
      {"deltaproduct", Decay::kScalar, Erase::kBeta}};
  for (const Row& r : kRows) {
    if (mixer != r.name) continue;
    c.decay = r.decay;
    c.erase = r.erase;
    return true;
  }
  return false;
}

void check_close(const std::string& what, const Tensor& got, const Tensor& want, double tolerance) {
  REQUIRE(got.defined());
  REQUIRE(got.count() == want.count());
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < want.count(); ++i) {
    const double x = got.data()[i], ref = want.data()[i];
    if (!std::isfinite(x)) worst = HUGE_VAL;
    worst = std::max(worst, std::abs(x - ref));
    largest = std::max(largest, std::abs(ref));
  }
  INFO(what, ": worst error ", worst, " against a largest value of ", largest);
  CHECK(worst <= tolerance * largest);
}

void run(const Context& ctx, const File& f, const RecurrenceConfig& config) {
  RecurrenceInputs in;
  in.q = f.tokens("q");
  in.k = f.tokens("k");
  in.v = f.tokens("v");
  in.g = f.has("log_decay") ? f.tokens("log_decay") : f.tokens("g");
  in.beta = f.tokens("beta");
  in.b = f.tokens("b");
  in.w = f.tokens("w");
  in.p = f.tokens("p");
  const Tensor& initial = f.tensors.at("initial_state");
  const int64_t batch = initial.size(0), tokens = in.q.size(0) / batch;
  Tensor states = Tensor::from(ctx, initial.shape(), std::span(initial.data(), initial.count()));
  std::vector<int64_t> starts;
  std::vector<float*> blocks;
  for (int64_t s = 0; s <= batch; ++s) starts.push_back(s * tokens);
  for (int64_t s = 0; s < batch; ++s) blocks.push_back(states.select(0, s).data());
  RecurrenceSaved saved;
  const Tensor out = recurrence_forward(ctx, config, in, starts, blocks, &saved);
  check_close("out", out, f.tensors.at("out"), 1e-5);
  check_close("final_state", states, f.tensors.at("final_state"), 1e-5);
  const RecurrenceGrads grads = recurrence_backward(
      ctx, config, in, starts, saved, f.tokens("d_out"), f.tensors.at("d_final_state"));
  // Gradients of decays lose bits where every decay is strong (specs/linear-recurrences.md section
  // 11).
  bool strong = in.g.defined();
  for (int64_t i = 0; strong && i < in.g.count(); ++i) strong = in.g.data()[i] < -4.0f;
  const std::map<std::string, Tensor> by_name = {
      {"q", grads.q},         {"k", grads.k},
      {"v", grads.v},         {"g", grads.g},
      {"log_decay", grads.g}, {"beta", grads.beta},
      {"b", grads.b},         {"w", grads.w},
      {"p", grads.p},         {"initial_state", grads.initial_states}};
  for (const auto& [name, want] : f.tensors) {
    if (name.rfind("grad.", 0) != 0) continue;
    const std::string of = name.substr(5);
    REQUIRE(by_name.count(of) == 1);
    check_close(name, by_name.at(of), want, of == "g" && strong ? 2e-4 : 1e-5);
  }
}

}  // namespace

TEST_CASE("the recurrence agrees with every golden file") {
  const char* folder = std::getenv("BRAID_GOLDEN");
  if (folder == nullptr) folder = std::getenv("BRAID_DEFAULT_GOLDEN");
  const std::filesystem::path root =
      std::filesystem::path(folder != nullptr ? folder : "tests/golden") / "recurrence";
  std::set<std::filesystem::path> files;
  if (std::filesystem::exists(root)) {
    for (const auto& entry : std::filesystem::directory_iterator(root)) {
      const std::string name = entry.path().filename().string();
      // layer_* are run by the layers' golden test.
      if (entry.path().extension() == ".safetensors" && name.rfind("layer_", 0) != 0)
        files.insert(entry.path());
    }
  }
  REQUIRE_MESSAGE(!files.empty(), "no golden files in ", root.string());
  for (const auto& path : files) {
    SUBCASE(path.filename().string().c_str()) {
      INFO(path.string());
      Context ctx;
      const File f = read(ctx, path);
      RecurrenceConfig config;
      REQUIRE_MESSAGE(config_of(f.metadata.at("mixer"), config), "unknown mixer ",
                      f.metadata.at("mixer"));
      config.scale = std::stof(f.metadata.at("scale"));
      if (f.metadata.count("num_householder"))
        config.micro_steps = std::stoll(f.metadata.at("num_householder"));
      run(ctx, f, config);
    }
  }
}

}  // namespace braid

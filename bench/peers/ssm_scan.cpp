// Mamba-2's recurrence beside ggml's SSM_SCAN on the same inputs, turn by turn (README.md).
//
//   ninja -C build ssm_scan_peer && build/ssm_scan_peer FOLDER_OF_LIBGGML [ROUNDS]
//
// ggml's time is one graph of one SSM_SCAN, the softplus of dt included, D left out; braid's is its
// ops for the same: softplus and decays, the recurrence in chunks, and D x.

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "braid/base/clock.h"
#include "braid/bench/fill.h"
#include "braid/bench/limits.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/recurrence.h"
#include "braid/ops/time_step.h"

namespace {

constexpr int64_t kTokens = 512, kHeads = 48, kDim = 64, kStates = 128;
constexpr int kThreads = 2;

// The few functions of ggml that are called, by their C signatures.
struct Ggml {
  struct Params {
    size_t mem_size;
    void* mem_buffer;
    bool no_alloc;
  };
  void* (*init)(Params);
  void* (*new_tensor)(void*, int type, int dims, const int64_t* sizes);
  void* (*get_data)(const void*);
  void* (*ssm_scan)(void*, void*, void*, void*, void*, void*, void*, void*, int copies);
  void* (*new_graph)(void*);
  void (*build_forward_expand)(void*, void*);
  int (*graph_compute_with_ctx)(void*, void*, int threads);
  void (*cpu_init)();

  explicit Ggml(const std::string& folder) {
    void* base = open(folder + "/libggml-base.so");
    void* cpu = nullptr;
    for (const char* name : {"zen4", "icelake", "haswell", "x64"}) {
      cpu = dlopen((folder + "/libggml-cpu-" + name + ".so").c_str(), RTLD_NOW | RTLD_GLOBAL);
      if (cpu == nullptr) continue;
      std::fprintf(stderr, "ggml: libggml-cpu-%s.so\n", name);
      break;
    }
    if (cpu == nullptr) throw std::runtime_error(std::string("no CPU library: ") + dlerror());
    find(base, "ggml_init", init);
    find(base, "ggml_new_tensor", new_tensor);
    find(base, "ggml_get_data", get_data);
    find(base, "ggml_ssm_scan", ssm_scan);
    find(base, "ggml_new_graph", new_graph);
    find(base, "ggml_build_forward_expand", build_forward_expand);
    find(cpu, "ggml_graph_compute_with_ctx", graph_compute_with_ctx);
    find(cpu, "ggml_cpu_init", cpu_init);
    cpu_init();
  }

 private:
  static void* open(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    return library;
  }
  template <typename F>
  static void find(void* library, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library, name));
    if (function == nullptr) throw std::runtime_error(std::string("no function ") + name);
  }
};

struct Inputs {
  braid::Context ctx;
  braid::Tensor x, dt, b, c;
  braid::Parameter a_log, bias, skip;
  Inputs() {
    ctx.threads = kThreads;
    x = braid::normal_tensor(ctx, {kTokens, kHeads, kDim}, 1, "x");
    dt = braid::uniform_tensor(ctx, {kTokens, kHeads}, -6, -1, "dt");
    b = braid::normal_tensor(ctx, {kTokens, 1, kStates}, 0.3, "b");
    c = braid::normal_tensor(ctx, {kTokens, 1, kStates}, 0.3, "c");
    a_log.value = braid::uniform_tensor(ctx, {kHeads}, 0, 2.7, "a_log");
    bias.value = braid::Tensor::zeros(ctx, {kHeads});
    skip.value = braid::Tensor::zeros(ctx, {kHeads});  // ggml's op has none: same results
  }
};

class GgmlRun {
 public:
  GgmlRun(const Ggml& g, const Inputs& in) : g_(g) {
    ctx_ = g.init({size_t{256} << 20, nullptr, false});
    const auto filled = [&](std::vector<int64_t> sizes, const braid::Tensor& from) {
      void* t = g.new_tensor(ctx_, 0, static_cast<int>(sizes.size()), sizes.data());
      if (from.defined())
        std::copy_n(from.data(), from.count(), static_cast<float*>(g.get_data(t)));
      return t;
    };
    void* state = filled({kStates, kDim, kHeads, 1}, {});
    std::fill_n(static_cast<float*>(g.get_data(state)), kStates * kDim * kHeads, 0.0f);
    void* x = filled({kDim, kHeads, kTokens, 1}, in.x);
    void* dt = filled({kHeads, kTokens, 1}, in.dt);
    void* a = filled({1, kHeads}, in.a_log.value);
    auto* rates = static_cast<float*>(g.get_data(a));
    for (int64_t h = 0; h < kHeads; ++h) rates[h] = -std::exp(rates[h]);
    void* b = filled({kStates, 1, kTokens, 1}, in.b);
    void* c = filled({kStates, 1, kTokens, 1}, in.c);
    const int64_t one = 1;
    void* ids = g.new_tensor(ctx_, 26 /* i32 */, 1, &one);
    *static_cast<int32_t*>(g.get_data(ids)) = 0;
    out_ = g.ssm_scan(ctx_, state, x, dt, a, b, c, ids, 1);
    graph_ = g.new_graph(ctx_);
    g.build_forward_expand(graph_, out_);
  }
  void operator()() { g_.graph_compute_with_ctx(ctx_, graph_, kThreads); }
  // y [T, H, P], then the state [H, P, N].
  const float* result() const { return static_cast<const float*>(g_.get_data(out_)); }

 private:
  const Ggml& g_;
  void *ctx_, *out_, *graph_;
};

class BraidRun {
 public:
  explicit BraidRun(Inputs& in)
      : in_(in), state_(braid::Tensor::zeros(in.ctx, {kHeads, kStates, kDim})) {}
  void operator()() {
    std::fill_n(state_.data(), state_.count(), 0.0f);
    const braid::TimeSteps steps =
        braid::time_steps(in_.ctx, in_.dt, in_.a_log, in_.bias, 0, HUGE_VAL);
    braid::RecurrenceInputs r;
    r.q = in_.c;
    r.k = in_.b;
    r.v = in_.x;
    r.g = steps.g;
    r.beta = steps.dt;
    const braid::RecurrenceConfig config{.decay = braid::RecurrenceConfig::Decay::kScalar,
                                         .erase = braid::RecurrenceConfig::Erase::kNone};
    const int64_t starts[] = {0, kTokens};
    float* states[] = {state_.data()};
    y_ = braid::add_scaled(in_.ctx, braid::recurrence(in_.ctx, config, r, starts, states), in_.x,
                           in_.skip);
  }
  const braid::Tensor& y() const { return y_; }
  const braid::Tensor& state() const { return state_; }

 private:
  Inputs& in_;
  braid::Tensor state_, y_;
};

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

template <typename F>
double seconds(F& run) {
  const double begin = braid::now_seconds();
  run();
  return braid::now_seconds() - begin;
}

int compare(const std::string& folder, int rounds) {
  const Ggml ggml(folder);
  Inputs in;
  GgmlRun peer(ggml, in);
  BraidRun own(in);
  peer();
  own();
  double worst_y = 0, worst_s = 0, largest_y = 0, largest_s = 0;
  for (int64_t i = 0; i < own.y().count(); ++i) {
    largest_y = std::max<double>(largest_y, std::abs(peer.result()[i]));
    worst_y = std::max<double>(worst_y, std::abs(peer.result()[i] - own.y().data()[i]));
  }
  for (int64_t i = 0; i < own.state().count(); ++i) {
    const int64_t h = i / (kStates * kDim), n = i / kDim % kStates, p = i % kDim;
    const float want = peer.result()[own.y().count() + (h * kDim + p) * kStates + n];
    largest_s = std::max<double>(largest_s, std::abs(want));
    worst_s = std::max<double>(worst_s, std::abs(want - own.state().data()[i]));
  }
  std::vector<double> peers, owns, ratios;
  for (int i = 0; i < rounds; ++i) {
    peers.push_back(seconds(peer));
    owns.push_back(seconds(own));
    ratios.push_back(peers.back() / owns.back());
  }
  std::printf(
      "{\"peer\":\"ggml SSM_SCAN\",\"tokens\":%ld,\"heads\":%ld,\"head_dim\":%ld,\"state\":%ld,"
      "\"threads\":%d,\"rounds\":%d,\"ggml_ms\":%.3f,\"braid_ms\":%.3f,\"ratio\":%.2f,"
      "\"output_error\":%.2e,\"state_error\":%.2e,\"f32_peak_gflops\":%.0f}\n",
      kTokens, kHeads, kDim, kStates, kThreads, rounds, 1e3 * median(peers), 1e3 * median(owns),
      median(ratios), worst_y / largest_y, worst_s / largest_s, braid::probe_peak_gflops(in.ctx));
  return worst_y <= 1e-4 * largest_y && worst_s <= 1e-4 * largest_s ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER_OF_LIBGGML [ROUNDS]\n", argv[0]);
    return 2;
  }
  try {
    return compare(argv[1], argc > 2 ? std::max(1, std::atoi(argv[2])) : 15);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}

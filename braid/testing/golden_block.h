#pragma once
// Block files of $BRAID_GOLDEN/ssm (README there): a whole residual block or two, x + f(norm x) per
// sub-layer, its weights under checkpoint names, output, states, continuation and gradients.
// Include from tests only.

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/channel.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/layer_norm.h"
#include "braid/ops/norm.h"
#include "braid/testing/golden.h"
#include "braid/testing/golden_mixer.h"

namespace braid::testing {

// Paths of the files of $BRAID_GOLDEN/ssm whose metadata "kind" is `kind`.
inline std::vector<std::string> ssm_files(const std::string& kind) {
  std::vector<std::string> found;
  for (const std::string& path : golden_files("ssm")) {
    if (SafetensorsFile::open(path).metadata("kind") == kind) found.push_back(path);
  }
  return found;
}

// One sub-layer: which layer, and where its norm's and its own weights stand in the file.
struct GoldenSub {
  const char* layer;
  Options options;
  std::string norm;  // "backbone.layers.0.norm": a LayerNorm when it has a bias
  std::string path;  // "backbone.layers.0.mixer."
  // Names of the file that are not those of the parameter: parameter -> file.
  std::map<std::string, std::string> renamed = {};
  // Where a tensor is laid out otherwise than the parameter: the parameter's values, or gradients
  // for prefix "grad.", from the file; undefined = as it stands there.
  std::function<Tensor(const GoldenLayer& file, const std::string& prefix, const std::string& own)>
      stored = nullptr;
};

class GoldenBlock {
 public:
  // first_norm: a norm of the input itself ("" = none).
  GoldenBlock(const std::string& path, std::vector<GoldenSub> subs, const char* eps_key,
              const std::string& first_norm = "")
      : file_(path), subs_(std::move(subs)), eps_(file_.number(eps_key)) {
    env_.width = file_.tensor("in.hidden_states").size(2);
    env_.norm_eps = eps_;
    env_.links = &names_;
    norms_.push_back(make_norm(first_norm));
    for (GoldenSub& sub : subs_) {
      norms_.push_back(make_norm(sub.norm));
      ParamBuilder builder(ctx(), params_, 0, sub.path);
      const LayerType* type = find_mixer(sub.layer);
      if (type == nullptr) type = find_channel(sub.layer);
      REQUIRE(type != nullptr);
      layers_.push_back(type->make(sub.options, env_, builder));
      for (Parameter& p : params_) {
        if (!p.name.starts_with(sub.path) || in_file_.contains(p.name)) continue;
        const std::string own = p.name.substr(sub.path.size());
        if (sub.stored) {
          const Tensor value = sub.stored(file_, sub.path, own);
          if (value.defined()) {
            copy_into(p, value);
            apart_ += value.count();
            in_file_[p.name] = "";
            other_grads_[p.name] = sub.stored(file_, "grad." + sub.path, own);
            continue;
          }
        }
        const auto renamed = sub.renamed.find(own);
        fill(p, renamed == sub.renamed.end() ? p.name : sub.path + renamed->second);
      }
      ++env_.layer_index;
    }
    // Weights that no parameter took by name are those that `stored` took apart.
    int64_t left = 0;
    for (const SafetensorsEntry& e : file_.file().entries()) {
      if (!is_weight(e.name) || used_.contains(e.name)) continue;
      left += file_.tensor(e.name).count();
    }
    CHECK(left == apart_);
  }

  const Context& ctx() const { return file_.ctx(); }
  const GoldenLayer& file() const { return file_; }

  // Output and all gradients of sum(up.out * out).
  void check_training(double tolerance, double gradient_tolerance) {
    Tape tape;
    Context train = ctx();
    train.tape = &tape;
    params_.allocate_grads(ctx());
    params_.zero_grads(ctx());
    Tensor x = file_.tokens("in.hidden_states");
    tape.watch(x);
    const Tensor y = forward(train, x, file_.batch(), {});
    check("out.out", y, file_.tokens("out.out"), tolerance);
    tape.backward(ctx(), y, file_.tokens("up.out"));
    check("grad.hidden_states", tape.grad(x), file_.tokens("grad.hidden_states"),
          gradient_tolerance);
    for (const Parameter& p : params_) {
      const std::string& name = in_file_.at(p.name);
      const Tensor want = name.empty() ? other_grads_.at(p.name) : file_.tensor("grad." + name);
      check("grad of " + p.name, p.grad, flat(want, p.grad), gradient_tolerance);
    }
  }

  using States = std::vector<std::vector<std::unique_ptr<LayerState>>>;  // [sub-layer][sequence]

  // T tokens, then T_next more at once and one by one. `states_of` compares the states with
  // tensors that begin with "state." or "state_next.".
  void check_continuation(double tolerance,
                          const std::function<void(const States&, const std::string&)>& states_of) {
    const int64_t first = file_.integer("T"), more = file_.integer("T_next");
    for (const int64_t step : {more, int64_t{1}}) {
      States states = fresh();
      const Tensor y = run(states, file_.tokens("in.hidden_states"), 0, first);
      check("out.out with states", y, file_.tokens("out.out"), tolerance);
      states_of(states, "state.");
      const Tensor next = file_.tokens("in.next"), want = file_.tokens("out.next");
      for (int64_t at = 0; at < more; at += step) {
        const Tensor part = sequence_rows(ctx(), next, sequences(), at, at + step);
        check(format("out.next from {}", at), run(states, part, first + at, step),
              sequence_rows(ctx(), want, sequences(), at, at + step), tolerance);
      }
      states_of(states, "state_next.");
    }
  }

  static void check(const std::string& what, const Tensor& got, const Tensor& want,
                    double tolerance) {
    const double error = worst_error(got, want);
    INFO(what, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  }

  // `kept` [Kc - 1, C] against the file's raw inputs [B, C, Kc], oldest first, of sequence s.
  static void check_window(const Tensor& kept, const Tensor& stored, int64_t s, double tolerance) {
    const Tensor rows = stored.select(0, s);  // [C, Kc]
    const int64_t taps = rows.size(1);
    REQUIRE(kept.size(0) == taps - 1);
    std::vector<double> want;
    for (int64_t t = 1; t < taps; ++t) {
      for (int64_t c = 0; c < rows.size(0); ++c) want.push_back(rows.data()[c * taps + t]);
    }
    INFO("window");
    CHECK(worst_error(kept, want) <= tolerance);
  }

  int64_t sequences() const { return file_.integer("B"); }

 private:
  struct Norm {
    Parameter *weight = nullptr, *bias = nullptr;
  };

  static bool is_weight(const std::string& name) {
    for (const char* other : {"in.", "out.", "up.", "grad.", "aux.", "state.", "state_next."}) {
      if (name.starts_with(other)) return false;
    }
    return true;
  }
  static Tensor flat(const Tensor& stored, const Tensor& like) {
    REQUIRE(stored.count() == like.count());
    return stored.reshape(like.shape());
  }
  static void copy_into(Parameter& p, const Tensor& from) {
    INFO(p.name);
    REQUIRE(from.count() == p.value.count());
    std::copy_n(from.data(), from.count(), p.value.data());
  }
  void fill(Parameter& p, const std::string& name) {
    copy_into(p, file_.tensor(name));
    in_file_[p.name] = name;
    used_.insert(name);
  }
  Norm make_norm(const std::string& path) {
    Norm norm;
    if (path.empty()) return norm;
    ParamBuilder builder(ctx(), params_, 0, path + ".");
    norm.weight = &builder.vector("weight", {env_.width}, Init::ones());
    fill(*norm.weight, path + ".weight");
    if (file_.file().find(path + ".bias") == nullptr) return norm;
    norm.bias = &builder.vector("bias", {env_.width}, Init::zeros());
    fill(*norm.bias, path + ".bias");
    return norm;
  }
  Tensor normed(const Context& c, const Norm& n, const Tensor& x) const {
    if (n.weight == nullptr) return x;
    return n.bias != nullptr ? layer_norm(c, x, *n.weight, *n.bias, eps_)
                             : rms_norm(c, x, *n.weight, eps_);
  }
  Tensor forward(const Context& c, Tensor x, const Batch& given, const States& states) {
    Links links;
    Batch batch = given;
    batch.links = &links;
    x = normed(c, norms_[0], x);
    for (size_t i = 0; i < layers_.size(); ++i) {
      std::vector<LayerState*> own;
      if (!states.empty()) {
        for (const auto& s : states[i]) {
          if (s) own.push_back(s.get());
        }
      }
      x = add(c, x, layers_[i]->forward(c, normed(c, norms_[i + 1], x), batch, own));
    }
    return x;
  }
  Tensor run(const States& states, const Tensor& x, int64_t offset, int64_t length) {
    Batch batch = Batch::uniform(sequences(), length);
    batch.offsets.assign(static_cast<size_t>(sequences()), offset);
    return forward(ctx(), x, batch, states);
  }
  States fresh() {
    States states(layers_.size());
    for (size_t i = 0; i < layers_.size(); ++i) {
      for (int64_t s = 0; s < sequences(); ++s) states[i].push_back(layers_[i]->make_state(ctx()));
    }
    return states;
  }

  GoldenLayer file_;
  std::vector<GoldenSub> subs_;
  double eps_;
  LayerEnv env_;
  LinkTable names_;
  ParameterSet params_;
  std::vector<Norm> norms_;  // of the input, then of each sub-layer
  std::vector<std::unique_ptr<Layer>> layers_;
  std::map<std::string, std::string> in_file_;  // parameter -> tensor; "" = laid out otherwise
  int64_t apart_ = 0;                           // values of those
  std::map<std::string, Tensor> other_grads_;   // of those
  std::set<std::string> used_;
};

}  // namespace braid::testing

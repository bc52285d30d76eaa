#pragma once
// Reverse-mode differentiation. An op computes its outputs, then, when ctx.tape is set and an input
// wants a gradient, records one closure that calls the op's own backward function (its neighbour in
// the same file).
//
// ops/linear.cpp is a whole example.
//
// Backward functions are ordinary functions that return fresh activation gradients and ADD
// parameter gradients into Parameter::grad. The tape sums when a value has several users, in the
// fixed order of the recording.

#include <functional>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/tensor.h"
#include "braid/ops/parameter.h"

namespace braid {

class Tape {
 public:
  // Marks a leaf whose gradient is wanted (an input under test, a checkpoint's boundary).
  void watch(Tensor& leaf);

  // Gives `output` a slot and records how its gradient goes on. `backward` is called with the
  // summed gradient of `output` (contiguous, same shape), only if some gradient reached it. It
  // passes gradients on with add().
  using Backward = std::function<void(Tape& tape, const Tensor& grad_output)>;
  void record(Tensor& output, Backward backward);

  // For ops with several outputs: called once when any of them has a gradient, with one entry per
  // output, undefined for those that have none. All outputs get slots.
  using BackwardMany = std::function<void(Tape& tape, std::span<const Tensor> grads)>;
  void record_many(std::span<Tensor* const> outputs, BackwardMany backward);

  // Adds g into the gradient of x; nothing when x is untracked. g must be contiguous, of x's shape,
  // and not be used by the caller afterwards (it may be kept and summed into).
  void add(const Tensor& x, Tensor g);
  bool wants(const Tensor& x) const { return x.slot() >= 0; }
  // The gradient that has reached x so far; undefined when none has.
  Tensor grad(const Tensor& x) const;

  // Runs the recording backwards from `output` with gradient `seed` (ones when undefined). Frees
  // each closure as it is done, so activations go back to the arena step by step. Leaf gradients
  // stay readable by grad().
  void backward(const Context& ctx, const Tensor& output, Tensor seed = {});
  // Same from several outputs at once.
  void backward_many(const Context& ctx, std::span<const Tensor> outputs,
                     std::span<const Tensor> seeds);

  const Context& context() const { return *ctx_; }  // valid inside backward

  // What joins the loss of the step beside it, by name ("balance"), with its coefficient. Told by
  // the backward function that makes the gradient, for this pass alone: it is weighted by
  // Context::loss_share here. Values of one name, of several layers, are summed.
  using Losses = std::map<std::string, double, std::less<>>;
  void add_loss(std::string_view name, double value);
  void add_losses(const Losses& of_inner_tape);
  const Losses& losses() const { return losses_; }

 private:
  struct Node {
    std::vector<int> outputs;
    BackwardMany backward;
  };
  void run();
  std::vector<Node> nodes_;
  std::vector<Tensor> grads_;  // by slot
  Losses losses_;
  const Context* ctx_ = nullptr;
};

// The tape to record on, or null when nothing is recorded or no input is tracked and no parameter
// is trained.
inline Tape* recording(const Context& ctx, std::initializer_list<const Tensor*> inputs,
                       bool trains_parameter = false) {
  if (ctx.tape == nullptr) return nullptr;
  if (trains_parameter) return ctx.tape;
  for (const Tensor* x : inputs) {
    if (x->slot() >= 0) return ctx.tape;
  }
  return nullptr;
}

}  // namespace braid

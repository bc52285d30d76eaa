#include "braid/ops/tape.h"

#include "braid/core/parallel.h"

namespace braid {

void Tape::watch(Tensor& leaf) {
  leaf.set_slot(static_cast<int>(grads_.size()));
  grads_.emplace_back();
}

void Tape::record(Tensor& output, Backward backward) {
  Tensor* const outputs[] = {&output};
  record_many(outputs, [backward = std::move(backward)](Tape& tape, std::span<const Tensor> grads) {
    backward(tape, grads[0]);
  });
}

void Tape::record_many(std::span<Tensor* const> outputs, BackwardMany backward) {
  Node node;
  for (Tensor* o : outputs) {
    watch(*o);
    node.outputs.push_back(o->slot());
  }
  node.backward = std::move(backward);
  nodes_.push_back(std::move(node));
}

void Tape::add(const Tensor& x, Tensor g) {
  if (x.slot() < 0) return;
  BRAID_CHECK(g.contiguous() && g.shape() == x.shape());
  Tensor& sum = grads_[x.slot()];
  g.set_slot(-1);
  if (!sum.defined()) {
    sum = std::move(g);
    return;
  }
  float* into = sum.data();
  const float* from = g.data();
  parallel_for(*ctx_, sum.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) into[i] += from[i];
  });
}

Tensor Tape::grad(const Tensor& x) const { return x.slot() >= 0 ? grads_[x.slot()] : Tensor(); }

void Tape::add_loss(std::string_view name, double value) {
  losses_[std::string(name)] += ctx_->loss_share * value;
}

void Tape::add_losses(const Losses& of_inner_tape) {
  for (const auto& [name, value] : of_inner_tape) losses_[name] += value;
}

void Tape::backward(const Context& ctx, const Tensor& output, Tensor seed) {
  if (!seed.defined()) seed = Tensor::full(ctx, output.shape(), 1.0f);
  backward_many(ctx, std::span(&output, 1), std::span(&seed, 1));
}

void Tape::backward_many(const Context& ctx, std::span<const Tensor> outputs,
                         std::span<const Tensor> seeds) {
  ctx_ = &ctx;
  for (size_t i = 0; i < outputs.size(); ++i) {
    // A copy: the gradient of a slot may be summed into.
    Tensor copy = Tensor::empty(ctx, seeds[i].shape());
    const float* from = seeds[i].data();
    float* into = copy.data();
    parallel_for(ctx, copy.count(), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) into[j] = from[j];
    });
    add(outputs[i], std::move(copy));
  }
  Context quiet = ctx;  // backward functions build on ops that must not be recorded again
  quiet.tape = nullptr;
  ctx_ = &quiet;
  run();
  ctx_ = nullptr;
}

void Tape::run() {
  std::vector<Tensor> grads;
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    bool reached = false;
    for (const int slot : node.outputs) {
      reached = reached || grads_[slot].defined();
      grads.push_back(std::move(grads_[slot]));
      grads_[slot] = Tensor();
    }
    if (reached) node.backward(*this, grads);
    grads.clear();
  }
}

}  // namespace braid

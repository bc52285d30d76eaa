#pragma once
// The activations of feed-forward layers, by name.

namespace braid {

enum class Act {
  kSilu,      // x sigmoid(x)
  kGelu,      // x Phi(x), Phi by erf
  kGeluTanh,  // x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); also "gelu_new"
  kRelu2,     // max(x, 0)^2
  kClamped,   // gated only (gpt-oss): g sigmoid(alpha g) (u + 1), g = min(gate, limit), u = up
              // within +- limit
};

struct Activation {
  Act act = Act::kSilu;
  float limit = 7;  // these of kClamped
  float alpha = 1.702f;
};

}  // namespace braid

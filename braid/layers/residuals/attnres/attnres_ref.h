#pragma once
// Definition of Attention Residuals on any scalar type with exp and sqrt (specs/depth-and-memory.md
// section 1).

#include <cmath>
#include <cstdint>
#include <vector>

namespace braid {

// One token: h [D] from S sources of D values each.
template <typename S>
std::vector<S> depth_softmax_ref(const std::vector<std::vector<S>>& sources, const S* query,
                                 const S* norm, double eps, double scale) {
  using std::exp;
  using std::sqrt;
  const size_t width = sources[0].size();
  std::vector<S> weight;
  S total = S(0);
  for (const std::vector<S>& v : sources) {
    S squares = S(0), dot = S(0);
    for (size_t d = 0; d < width; ++d) {
      squares += v[d] * v[d];
      dot += query[d] * norm[d] * v[d];
    }
    weight.push_back(exp(scale * dot / sqrt(squares / static_cast<double>(width) + eps)));
    total += weight.back();
  }
  std::vector<S> h(width, S(0));
  for (size_t s = 0; s < sources.size(); ++s) {
    for (size_t d = 0; d < width; ++d) h[d] += weight[s] / total * sources[s][d];
  }
  return h;
}

// One token through a whole stack: f(l, h) is sub-layer l with its own norm; read 0 .. L - 1 are
// the sub-layers', read L the read-out. query, norm [L + 1, D]. block = sub-layers that share a
// running sum, 1 = full AttnRes.
template <typename S, typename F>
std::vector<S> attnres_ref(std::vector<S> embedding, int64_t sublayers, int64_t block,
                           const S* query, const S* norm, double eps, double scale, const F& f) {
  const int64_t width = static_cast<int64_t>(embedding.size());
  std::vector<std::vector<S>> done = {std::move(embedding)};
  std::vector<S> partial;
  const auto read = [&](int64_t l) {
    std::vector<std::vector<S>> sources = done;
    if (!partial.empty()) sources.push_back(partial);
    return depth_softmax_ref(sources, query + l * width, norm + l * width, eps, scale);
  };
  for (int64_t l = 0; l < sublayers; ++l) {
    if (l > 0 && l % block == 0) {
      done.push_back(std::move(partial));
      partial.clear();
    }
    const std::vector<S> y = f(l, read(l));
    if (partial.empty()) partial.assign(y.size(), S(0));
    for (size_t d = 0; d < y.size(); ++d) partial[d] += y[d];
  }
  return read(sublayers);
}

}  // namespace braid

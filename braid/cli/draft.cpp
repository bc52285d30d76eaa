#include "braid/cli/draft.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/cli/run_model.h"

namespace braid {

Draft make_draft(const Context& ctx, const std::string& folder, int64_t ngram, const Model& target,
                 const LoadOptions& load) {
  Draft d;
  if (!folder.empty() && ngram > 0)
    throw Error(ErrorKind::kUsage, "--draft and --draft-ngram are both given; use one");
  if (ngram > 0) d.drafter = ngram_drafter(ngram);
  if (folder.empty()) return d;
  d.model = load_any_model(ctx, folder, load);
  const int64_t vocab = d.model.model->settings().vocab, wanted = target.settings().vocab;
  if (vocab != wanted) {
    throw Error(ErrorKind::kUsage, format("--draft {} has a vocabulary of {}, the model of {}",
                                          folder, vocab, wanted));
  }
  d.drafter = model_drafter(ctx, *d.model.model);
  return d;
}

}  // namespace braid

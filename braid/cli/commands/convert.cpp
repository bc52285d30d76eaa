// A model in another form.

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/importers/gguf_export.h"

namespace braid {
namespace {

struct Flags {
  std::string model, out, to = "gguf", weights;
  CommonFlags common;
};

GgmlType gguf_type(const std::string& weights) {
  constexpr std::pair<const char*, GgmlType> kNames[] = {
      {"", GgmlType::kF32},      {"f32", GgmlType::kF32},   {"f16", GgmlType::kF16},
      {"bf16", GgmlType::kBF16}, {"q8_0", GgmlType::kQ8_0}, {"q4_0", GgmlType::kQ4_0}};
  for (const auto& [name, type] : kNames) {
    if (weights == name) return type;
  }
  throw Error(
      ErrorKind::kUsage,
      format("--weights is \"{}\"; with --to gguf it is f32, f16, bf16, q8_0 or q4_0", weights));
}

int run(const Flags& f) {
  const GgmlType type = gguf_type(f.weights);
  const Context ctx = f.common.context();
  if (path_exists(f.out))
    throw Error(ErrorKind::kUsage, format("{} exists; name a new file with -o", f.out));
  const GgufExported done = convert_to_gguf(ctx, f.model, type, f.out);
  for (const std::string& note : done.notes) std::fprintf(stderr, "%s\n", note.c_str());
  if (f.common.json) {
    const Json line = Json::object({{"out", f.out}, {"bytes", done.bytes}});
    std::puts(line.dump().c_str());
  } else {
    std::printf("%s: %llu bytes\n", f.out.c_str(), static_cast<unsigned long long>(done.bytes));
  }
  return 0;
}

}  // namespace

std::function<int()> setup_convert(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  app.add_option("-m,--model", f->model, "Hugging Face folder or .gguf file")->required();
  app.add_option("-o,--out", f->out, "What to write")->required();
  app.add_option("--to", f->to, "gguf")->check(CLI::IsMember({"gguf"}));
  app.add_option("--weights", f->weights, "Of matrices: f32, f16, bf16, q8_0, q4_0");
  f->common.add(app);
  app.footer("Example: braid convert -m FOLDER -o model.gguf --to gguf --weights q8_0");
  return [f] { return run(*f); };
}

}  // namespace braid

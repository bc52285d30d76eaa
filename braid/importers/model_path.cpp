#include "braid/importers/model_path.h"

#include <algorithm>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/load.h"

namespace braid {
namespace {

constexpr size_t kListed = 4;
constexpr std::string_view kGguf = ".gguf";

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}", path, what));
}

// Names that end so; of a split model ("name-00002-of-00003.gguf") the first part alone.
std::vector<std::string> files_in(const std::string& folder, std::string_view end) {
  std::vector<std::string> out;
  for (const std::string& name : list_folder(folder)) {
    const bool later =
        matches_pattern(name, "*-#-of-#.gguf") && !matches_pattern(name, "*-00001-of-#.gguf");
    if (name.ends_with(end) && !later && !is_folder(join_path(folder, name))) out.push_back(name);
  }
  return out;
}

std::string names_of(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i)
    out += (i > 0 ? ", " : "") + printable(names[i], 100);
  return names.size() > kListed ? out + format(" and {} more", names.size() - kListed) : out;
}

void check_folder(const std::string& path) {
  const std::vector<std::string> ggufs = files_in(path, kGguf);
  const std::string remedy =
      ggufs.empty() ? ""
                    : format("name the GGUF file itself: -m {}{}", join_path(path, ggufs[0]),
                             ggufs.size() > 1 ? format(" (there are {})", names_of(ggufs)) : "");
  if (is_hf_folder(path)) {
    if (!has_weights(path) && !ggufs.empty())
      fail(path, "there is a config.json, but no safetensors; " + remedy);
    return;
  }
  for (const char* name : {"model.toml", "weights.safetensors", "latest"})
    if (path_exists(join_path(path, name))) return;  // braid's own, whole or not
  if (!ggufs.empty()) fail(path, "there is no config.json; " + remedy);
  const std::vector<std::string> weights = files_in(path, ".safetensors");
  if (!weights.empty())
    fail(path, format("there is {} but no config.json, which says what model the weights are of; "
                      "put it beside them",
                      names_of(weights)));
  fail(path,
       "there is no model: neither config.json (Hugging Face) nor model.toml (braid) nor a .gguf "
       "file");
}

void check_file(const std::string& path) {
  if (is_gguf_file(path)) return;
  if (path.ends_with(".safetensors"))
    fail(path, format("weights alone are no model; name the folder that has their config.json too: "
                      "-m {}",
                      parent_path(path)));
  if (!path.ends_with(kGguf))
    fail(path, "is neither a folder nor a GGUF file; name a model's folder or its .gguf file");
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  if (file->size() == 0) fail(path, "is empty, no GGUF file; download or convert it again");
  fail(path, format("begins with \"{}\", not with \"GGUF\": no GGUF file; download or convert it "
                    "again",
                    printable(file->text().substr(0, 20))));
}

}  // namespace

void require_model(const std::string& path) {
  if (!path_exists(path)) fail(path, "there is no such file or folder");
  is_folder(path) ? check_folder(path) : check_file(path);
}

}  // namespace braid

// Any bytes as tokenizer_config.json, chat_template.json or chat_template.jinja of a folder, two of
// them apart by a NUL: braid::Error(kBadInput) that names the file, or templates that render.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"
#include "braid/text/jinja/chat_template.h"

namespace braid {
namespace {

constexpr const char* kNames[] = {"tokenizer_config.json", "chat_template.json",
                                  "chat_template.jinja"};

void load(const std::string& folder) {
  std::optional<ChatTemplates> found;
  try {
    found = load_chat_template(folder);
  } catch (const Error& e) {
    testing::expect(e);
    BRAID_CHECK(std::string_view(e.what()).find(folder) != std::string_view::npos);
    return;
  }
  if (!found) return;
  BRAID_CHECK(path_exists(found->where));
  ChatOptions options;
  options.limits = {.work = 200'000, .memory = 8 << 20, .output = 1 << 20, .depth = 600};
  options.extras = found->special_tokens;
  const Json messages = Json::parse(R"([{"role":"user","content":"hi"}])");
  for (const bool tools : {false, true}) {
    try {
      found->choose(tools).render(messages, {}, options);
    } catch (const Error& e) {
      testing::expect(e);
    }
  }
}

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const braid::testing::FuzzFolder folder("template");
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t cut = text.find('\0');
  const auto put = [&](size_t file, std::string_view bytes) {
    braid::AppendFile(folder / braid::kNames[file % 3], 0).write(bytes);
  };
  put(data[0], text.substr(0, cut));
  if (cut != text.npos) put(data[0] / 3 + 1, text.substr(cut + 1));
  braid::load(folder.path());
  for (const char* name : braid::kNames) braid::remove_file(folder / name);
  return 0;
}

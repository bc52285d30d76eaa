// Any bytes as the notes of a chat's file: braid::Error(kBadInput) and a chat that is as it was, or
// a chat that keeps the same notes, can be undone to its beginning and answers.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "braid/base/error.h"
#include "braid/infer/chat.h"
#include "braid/testing/fuzz_expect.h"

namespace braid {
namespace {

struct World {
  World() : model(ctx, settings()) {
    advance(ctx, model, read, byte_tokens("ab"));
    config.generate.max_tokens = 2;
    config.generate.sampling.temperature = 0;
  }
  static ModelSettings settings() {
    ModelSettings s;
    s.stack = parse_stack("shortconv", known_layers());
    s.width = 16;
    return s;
  }

  void resume(const std::string& notes) {
    Chat chat(ctx, model, *tokenizer, text, config);
    const std::string before = chat.notes();
    try {
      chat.resume(read.snapshot(), notes, read.snapshot());
    } catch (const Error& e) {
      testing::expect(e);
      BRAID_CHECK(chat.notes() == before && chat.sequence().tokens.empty());
      return;
    }
    const std::string kept = chat.notes();
    Chat again(ctx, model, *tokenizer, text, config);
    again.resume(read.snapshot(), kept, read.snapshot());
    BRAID_CHECK(again.notes() == kept && again.messages() == chat.messages());
    again.earlier();
    answer(chat);
    while (again.undo()) {
    }
    answer(again);
  }

  void answer(Chat& chat) {
    const Json before = chat.messages();
    try {
      chat.say("hi", [](std::string_view) { return true; });
      BRAID_CHECK(chat.messages().elements().size() == before.elements().size() + 2);
    } catch (const Error& e) {  // a message that the template cannot word
      testing::expect(e);
      BRAID_CHECK(chat.messages() == before);
    }
  }

  Context ctx{.threads = 1};
  Model model;
  SequenceState read = model.new_sequence(ctx);
  std::shared_ptr<const Tokenizer> tokenizer = byte_tokenizer();
  ChatTemplate text = ChatTemplate::parse(default_chat_template());
  ChatConfig config;
};

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static braid::World world;
  world.resume(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}

#include "braid/infer/chat.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/base/error.h"
#include "braid/stack/settings.h"

namespace braid {
namespace {

// 128 tokens: with the bytes as vocabulary every answer is ASCII.
ModelSettings settings() {
  ModelSettings s;
  s.stack = parse_stack("gdn, swiglu, gqa, swiglu", known_layers());
  s.width = 32;
  s.heads = 2;
  s.head_dim = 16;
  s.vocab = 128;
  s.init = parse_named("normal{std=0.3}", "init");
  return s;
}

struct Fixture {
  explicit Fixture(std::string_view text = default_chat_template()) {
    words = ChatTemplate::parse(text);
    config.generate.max_tokens = 9;
    config.generate.sampling.seed = 5;
    config.system = "Be brief.";
  }
  Chat chat() { return Chat(ctx, model, *tokenizer, words, config); }
  std::vector<int32_t> read(const Json& messages) const {  // the prompt of these messages
    return byte_tokens(words.render(messages));
  }
  Context ctx;
  Model model{ctx, settings()};
  std::shared_ptr<const Tokenizer> tokenizer = byte_tokenizer();
  ChatTemplate words;
  ChatConfig config;
};

const auto silent = [](std::string_view) { return true; };

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.count() == b.count() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

bool starts_with(const std::vector<int32_t>& all, const std::vector<int32_t>& head) {
  return all.size() >= head.size() && std::equal(head.begin(), head.end(), all.begin());
}

const char* const kTrimming =
    "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('bad') }}{% endif %}"
    "<{{ m.role }}>{{ 'gone' if m.role == 'assistant' else m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

}  // namespace

TEST_CASE("every turn reads only what is new, and the state has read the whole chat") {
  Fixture f;
  Chat chat = f.chat();
  const ChatAnswer first = chat.say("Hello", silent);
  CHECK(first.kept == 0);
  CHECK(first.result.tokens.size() == 9);
  CHECK(chat.messages().size() == 3);
  const auto held = std::ssize(chat.sequence().tokens);
  const ChatAnswer second = chat.say("More", silent);
  CHECK(second.kept == held);
  CHECK(second.reread == 0);
  Json asked = chat.messages();
  CHECK(asked.elements().back().at("content").as_string() == second.result.text);
  asked = Json::array();
  for (size_t i = 0; i < 4; ++i) asked.push(chat.messages().elements()[i]);
  CHECK(starts_with(chat.sequence().tokens, f.read(asked)));
  CHECK(std::ssize(chat.sequence().tokens) == std::ssize(f.read(asked)) + 9);
}

TEST_CASE("undo goes back by snapshot, and the same turn then gives the same answer") {
  Fixture f;
  Chat chat = f.chat();
  chat.say("One", silent);
  const SequenceState before = chat.sequence().snapshot();
  const std::string answer = chat.say("Two", silent).result.text;
  const SequenceState after = chat.sequence().snapshot();
  REQUIRE(chat.undo());
  CHECK(chat.sequence().tokens == before.tokens);
  CHECK(chat.messages().size() == 3);
  CHECK(chat.say("Two", silent).result.text == answer);
  CHECK(same_bits(chat.sequence().logits, after.logits));
  CHECK(chat.undo());
  CHECK(chat.undo());
  CHECK(!chat.undo());
  CHECK(chat.sequence().tokens.empty());
  CHECK(chat.messages().size() == 1);  // the system's
}

TEST_CASE("turns older than the kept states are undone too") {
  Fixture f;
  f.config.generate.max_tokens = 2;
  Chat chat = f.chat();
  const size_t turns = Chat::kKeptTurns + 3;
  for (size_t i = 0; i < turns; ++i) chat.say("x", silent);
  for (size_t i = 0; i + 1 < turns; ++i) CHECK(chat.undo());
  CHECK(chat.messages().size() == 3);
  const ChatAnswer again = chat.say("y", silent);  // all is read again
  CHECK(again.kept == 0);
  CHECK(chat.messages().size() == 5);
}

TEST_CASE("a fork is a copy of the chat that can be returned to, with its turns") {
  Fixture f;
  Chat chat = f.chat();
  CHECK(!chat.back());
  chat.say("One", silent);
  chat.fork();
  const SequenceState there = chat.sequence().snapshot();
  const std::string left = chat.say("Left", silent).result.text;
  chat.say("Further", silent);
  REQUIRE(chat.back());
  CHECK(chat.sequence().tokens == there.tokens);
  CHECK(chat.say("Left", silent).result.text == left);
  CHECK(chat.undo());
  CHECK(chat.undo());
  CHECK(!chat.undo());
}

TEST_CASE("a template that rewords earlier turns: read again from the last place that fits") {
  Fixture f(kTrimming);
  Chat chat = f.chat();
  chat.say("One", silent);
  const ChatAnswer second = chat.say("Two", silent);
  CHECK(second.reread == 9);  // the first answer, which is worded otherwise now
  CHECK(second.kept > 0);
  const auto prompt =
      byte_tokens("<system>Be brief.</><user>One</><assistant>gone</><user>Two</><assistant>");
  CHECK(starts_with(chat.sequence().tokens, prompt));
  CHECK(std::ssize(chat.sequence().tokens) == std::ssize(prompt) + 9);
}

TEST_CASE("a turn that fails leaves the chat as it was") {
  Fixture f(kTrimming);
  Chat chat = f.chat();
  const std::string answer = chat.say("One", silent).result.text;
  const SequenceState before = chat.sequence().snapshot();
  CHECK_THROWS_AS(chat.say("bad", silent), Error);
  CHECK(chat.messages().size() == 3);
  CHECK(chat.sequence().tokens == before.tokens);
  CHECK(same_bits(chat.sequence().logits, before.logits));
}

TEST_CASE("an answer that was stopped stays, and the chat goes on from it") {
  Fixture f;
  Chat chat = f.chat();
  const ChatAnswer a = chat.say("One", [](std::string_view) { return false; });
  CHECK(a.result.finish == "interrupted");
  CHECK(a.result.tokens.size() == 1);
  const ChatAnswer b = chat.say("Two", silent);
  CHECK(b.reread == 0);
  CHECK(b.kept > 0);
}

TEST_CASE("notes and a state are all it takes to go on, bit for bit") {
  Fixture f;
  Chat chat = f.chat();
  chat.say("One", silent);
  const std::string notes = chat.notes();
  SequenceState state = chat.sequence().snapshot();
  const std::string answer = chat.say("Two", silent).result.text;
  Fixture other;
  other.config.generate.sampling.seed = 99;  // the state knows its own
  Chat resumed = other.chat();
  resumed.resume(std::move(state), notes, resumed.fresh());
  const ChatAnswer second = resumed.say("Two", silent);
  CHECK(second.result.text == answer);
  CHECK(second.reread == 0);
  CHECK(same_bits(resumed.sequence().logits, chat.sequence().logits));
  CHECK_THROWS_AS(resumed.resume({}, "{}", {}), Error);
  CHECK_THROWS_AS(resumed.resume({}, R"({"messages":[],"fed":"0g","asked":""})", {}), Error);
}

TEST_CASE("turns of a resumed chat can be undone, to an empty chat and no further") {
  Fixture f;
  Chat chat = f.chat();
  chat.say("One", silent);
  chat.say("Two", silent);
  Chat resumed = f.chat();
  resumed.resume(chat.sequence().snapshot(), chat.notes(), resumed.fresh());
  REQUIRE(resumed.undo());
  CHECK(resumed.messages().size() == 3);  // the system's, "One" and its answer
  Json next = resumed.messages();
  next.push(Json::object({{"role", "user"}, {"content", "Three"}}));
  CHECK(resumed.say("Three", silent).kept == 0);
  CHECK(resumed.messages().size() == 5);
  CHECK(starts_with(resumed.sequence().tokens, f.read(next)));
  REQUIRE(resumed.undo());
  REQUIRE(resumed.undo());
  CHECK(resumed.messages().size() == 1);
  CHECK(resumed.sequence().tokens.empty());
  CHECK(!resumed.undo());
}

TEST_CASE("a resumed chat rewinds to before its last answer when the template rewords it") {
  Fixture f(kTrimming);
  Chat chat = f.chat();
  chat.say("One", silent);
  const std::string notes = chat.notes();
  REQUIRE(chat.earlier() != nullptr);
  SequenceState state = chat.sequence().snapshot(), earlier = chat.earlier()->snapshot();
  const ChatAnswer whole = chat.say("Two", silent);
  Fixture other(kTrimming);
  Chat resumed = other.chat();
  resumed.resume(std::move(state), notes, std::move(earlier));
  const ChatAnswer second = resumed.say("Two", silent);
  CHECK(second.kept == whole.kept);
  CHECK(second.result.text == whole.result.text);
  CHECK(same_bits(resumed.sequence().logits, chat.sequence().logits));
}

}  // namespace braid

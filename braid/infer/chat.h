#pragma once
// A conversation with a model: messages, the state that has read them, and the ways back.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/base/json.h"
#include "braid/infer/generate.h"
#include "braid/text/jinja/chat_template.h"

namespace braid {

struct ChatConfig {
  GenerateConfig generate;
  std::string system;  // the first message; empty: none
  Json tools;
  StateOptions state;                                   // how keys and values are kept
  std::vector<std::pair<std::string, Json>> variables;  // of the template
};

struct ChatAnswer {
  GenerateResult result;  // prompt_tokens: those that were read for this answer
  int64_t kept = 0;       // tokens before them, which the state held already
  int64_t reread = 0;     // tokens that the state had read, but in another wording
};

class Chat {
 public:
  // All references must outlive it.
  Chat(const Context& ctx, Model& model, const Tokenizer& tokenizer, const ChatTemplate& text,
       ChatConfig config);

  // One turn. When it fails (no memory, the template refuses), the chat is as before. A turn that
  // was stopped is kept with the answer so far.
  ChatAnswer say(std::string_view message, FunctionRef<bool(std::string_view)> on_text);
  // Back to before the last turn. False when there is none. Beyond the last kKeptTurns turns the
  // state is read again with the next message.
  bool undo();
  void fork();  // keeps a copy of the chat as it is now ...
  bool back();  // ... and returns to the last one kept; false when there is none

  const Json& messages() const { return messages_; }
  const SequenceState& sequence() const { return sequence_; }
  // An empty sequence as this chat keeps them, to load one into.
  SequenceState fresh() const { return model_.new_sequence(ctx_, config_.state); }
  // What a file must hold beside the sequence to go on, and its inverse. Throws Error(kBadInput).
  std::string notes() const;
  // The state before the last answer where the template will reword that answer; else null.
  const SequenceState* earlier() const;
  void resume(SequenceState sequence, const std::string& notes, SequenceState earlier);

  static constexpr size_t kKeptTurns = 16;

 private:
  struct Point {  // somewhere the chat has been
    Json messages;
    std::string fed;
    SequenceState sequence;
  };
  struct Turn {
    Point before;
    Point asked;  // its prompt read, nothing answered
    bool has_states = true;
  };
  struct Fork {
    Point point;
    std::vector<std::shared_ptr<Turn>> turns;
  };
  Point here() const { return {messages_, fed_, sequence_.snapshot()}; }
  void go_to(const Point& point);
  void forget_old_states();
  void rewind(const std::string& prompt);
  const Point* last_fitting(const std::string& prompt) const;
  std::string prompt_of(const Json& messages) const;
  std::vector<int32_t> unread(const std::string& prompt) const;

  const Context& ctx_;
  Model& model_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
  ChatConfig config_;
  Json messages_ = Json::array();
  std::string fed_;  // the text that the sequence has read and written
  SequenceState sequence_;
  std::vector<std::shared_ptr<Turn>> turns_;
  std::vector<Fork> forks_;
  Point resumed_;  // the point before the last answer of a chat from a file
};

}  // namespace braid

#pragma once
// A model's chat template: messages in, prompt text out.

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "braid/base/json.h"
#include "braid/text/jinja/value.h"

namespace braid {

namespace jinja {
struct Template;
}

struct ChatOptions {
  bool add_generation_prompt = true;
  Json documents;  // null: none
  // Further variables: enable_thinking, reasoning_effort, and the special tokens' texts
  // (bos_token, eos_token ...). A later one of the same name wins.
  std::vector<std::pair<std::string, Json>> extras;
  std::function<std::tm()> clock;  // what strftime_now reads; unset: the local time
  jinja::RenderLimits limits;
};

class ChatTemplate {
 public:
  // Throws Error(kBadInput) "SOURCE:LINE:COLUMN: ..." for bad syntax and for what is not supported.
  static ChatTemplate parse(std::string_view text, const std::string& source = "chat template");

  // `messages`: an array of {"role": ..., "content": ...}. `tools`: an array, or null for none.
  // Throws Error(kBadInput) when the template refuses them (raise_exception) or goes wrong.
  std::string render(const Json& messages, const Json& tools = {},
                     const ChatOptions& options = {}) const;

 private:
  std::shared_ptr<const jinja::Template> template_;
};

// The templates of a model's folder.
struct ChatTemplates {
  ChatTemplate base;                       // the one called "default"
  std::optional<ChatTemplate> with_tools;  // "tool_use": for conversations with tools
  std::vector<std::pair<std::string, Json>> special_tokens;  // for ChatOptions::extras
  std::string where;                                         // the file it came from
  const ChatTemplate& choose(bool tools) const { return tools && with_tools ? *with_tools : base; }
};

// chat_template.jinja, else chat_template.json, else the entry of tokenizer_config.json: a text or
// a list of {"name", "template"}. Nothing when the folder has none of them.
std::optional<ChatTemplates> load_chat_template(const std::string& folder);

// <|im_start|>role\ncontent<|im_end|>: what most models without a template of their own are fed.
const std::string& default_chat_template();

}  // namespace braid

#include "braid/text/jinja/chat_template.h"

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"

namespace braid {
namespace {

constexpr size_t kLongestTemplate = size_t{4} << 20;
constexpr size_t kLongestConfig = size_t{64} << 20;

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  return parts;
}

// Special tokens stand in tokenizer_config.json as a text or as {"content": text, ...}.
std::vector<std::pair<std::string, Json>> special_tokens(const Json& config) {
  std::vector<std::pair<std::string, Json>> tokens;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    const Json* v = config.find(name);
    if (v && v->is_object()) v = v->find("content");
    if (v && v->is_string()) tokens.emplace_back(name, *v);
  }
  return tokens;
}

Json read_json(const std::string& path) {
  try {
    Json json = Json::parse(read_file(path, kLongestConfig));
    if (!json.is_object()) throw Error(ErrorKind::kBadInput, "the top is no object");
    return json;
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

void take_named(const Json& list, const std::string& source, ChatTemplates& out) {
  bool found = false;
  const auto text = [&](const Json& entry, const char* key) -> const std::string& {
    const Json* value = entry.is_object() ? entry.find(key) : nullptr;
    if (value != nullptr && value->is_string()) return value->as_string();
    throw Error(ErrorKind::kBadInput,
                format("{}: a chat template of the list has no {} that is a text", source, key));
  };
  for (const Json& entry : list.elements()) {
    const std::string& name = text(entry, "name");
    if (name != "default" && name != "tool_use") continue;
    auto parsed = ChatTemplate::parse(text(entry, "template"), format("{} ({})", source, name));
    if (name == "default") {
      out.base = std::move(parsed);
      found = true;
    } else {
      out.with_tools = std::move(parsed);
    }
  }
  if (!found) {
    throw Error(ErrorKind::kBadInput, format("{}: no chat template is called 'default'", source));
  }
}

}  // namespace

ChatTemplate ChatTemplate::parse(std::string_view text, const std::string& source) {
  if (text.size() > kLongestTemplate) {
    throw Error(ErrorKind::kBadInput, format("{}: a template of {} bytes, more than {}", source,
                                             text.size(), kLongestTemplate));
  }
  ChatTemplate result;
  result.template_ = jinja::parse_template(text, source);
  return result;
}

std::string ChatTemplate::render(const Json& messages, const Json& tools,
                                 const ChatOptions& options) const {
  if (!template_) throw Error(ErrorKind::kBadInput, "there is no chat template");
  jinja::Interpreter in(*template_, options.limits, options.clock ? options.clock : &local_now);
  try {
    in.set("messages", in.heap().from_json(messages));
    in.set("tools", in.heap().from_json(tools));
    in.set("documents", in.heap().from_json(options.documents));
    in.set("add_generation_prompt", options.add_generation_prompt);
    for (const auto& [name, value] : options.extras) in.set(name, in.heap().from_json(value));
  } catch (const jinja::Failure& failure) {
    throw Error(ErrorKind::kBadInput, "messages: " + failure.message);
  }
  return in.run();
}

std::optional<ChatTemplates> load_chat_template(const std::string& folder) {
  ChatTemplates out;
  const std::string config_path = join_path(folder, "tokenizer_config.json");
  Json config;
  if (path_exists(config_path)) {
    config = read_json(config_path);
    out.special_tokens = special_tokens(config);
  }
  const std::string jinja_path = join_path(folder, "chat_template.jinja");
  const std::string json_path = join_path(folder, "chat_template.json");
  if (path_exists(jinja_path)) {
    out.where = jinja_path;
    out.base = ChatTemplate::parse(read_file(jinja_path, kLongestTemplate), jinja_path);
    return out;
  }
  Json other;
  const Json* entry = config.is_object() ? config.find("chat_template") : nullptr;
  out.where = config_path;
  if (path_exists(json_path)) {
    other = read_json(json_path);
    entry = other.find("chat_template");
    out.where = json_path;
    if (entry == nullptr)
      throw Error(ErrorKind::kBadInput, format("{} has no chat_template", json_path));
  }
  if (!entry || entry->is_null()) return {};
  if (entry->is_array()) {
    take_named(*entry, out.where, out);
  } else if (entry->is_string()) {
    out.base = ChatTemplate::parse(entry->as_string(), out.where + " (chat_template)");
  } else {
    throw Error(ErrorKind::kBadInput,
                format("{}: chat_template is neither a text nor a list", out.where));
  }
  return out;
}

const std::string& default_chat_template() {
  static const std::string text =
      "{%- for message in messages %}"
      "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
      "{%- endfor %}"
      "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";
  return text;
}

}  // namespace braid

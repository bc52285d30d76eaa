#include "braid/infer/chat.h"

#include <algorithm>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/text/utf8_stream.h"

namespace braid {
namespace {

const EncodeOptions kTemplateText{.add_special_tokens = false, .allow_special = true};

// What the tokens are as text, special tokens too; bytes that are no UTF-8 replaced as in the text
// of a result, so that the template's wording of an answer is recognised.
std::string spelled(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  StreamDecoder decoder(tokenizer, false, false);
  TextStream whole;
  std::string text;
  for (const int32_t id : ids) text += whole.push(decoder.push(id));
  text += whole.push(decoder.finish());
  return text + whole.finish();
}

// Bytes that may be no UTF-8, for JSON.
std::string hex(std::string_view bytes) {
  std::string out;
  for (const unsigned char c : bytes) out += format("{:02x}", c);
  return out;
}

std::string unhex(std::string_view text) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  if (text.size() % 2 != 0) throw Error(ErrorKind::kBadInput, "the chat's text is cut");
  std::string out;
  for (size_t i = 0; i < text.size(); i += 2) {
    const size_t high = kDigits.find(text[i]), low = kDigits.find(text[i + 1]);
    if (high == kDigits.npos || low == kDigits.npos) {
      throw Error(ErrorKind::kBadInput, "the chat's text is damaged");
    }
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

}  // namespace

Chat::Chat(const Context& ctx, Model& model, const Tokenizer& tokenizer, const ChatTemplate& text,
           ChatConfig config)
    : ctx_(ctx),
      model_(model),
      tokenizer_(tokenizer),
      template_(text),
      config_(std::move(config)),
      sequence_(fresh()) {
  if (!config_.system.empty()) {
    messages_.push(Json::object({{"role", "system"}, {"content", config_.system}}));
  }
}

void Chat::go_to(const Point& point) {
  messages_ = point.messages;
  fed_ = point.fed;
  sequence_.restore(point.sequence);
}

// The latest place whose text the prompt goes on from; the beginning when there is none.
void Chat::rewind(const std::string& prompt) {
  const uint64_t draws = sequence_.draws;
  fed_.clear();
  if (const Point* point = last_fitting(prompt)) {
    fed_ = point->fed;
    sequence_.restore(point->sequence);
  } else {
    sequence_ = fresh();
  }
  sequence_.draws = draws;  // the sampler goes on counting
}

const Chat::Point* Chat::last_fitting(const std::string& prompt) const {
  const auto fits = [&](const Point& p) {
    return !p.sequence.tokens.empty() && prompt.starts_with(p.fed);
  };
  for (auto turn = turns_.rbegin(); turn != turns_.rend() && (*turn)->has_states; ++turn) {
    for (const Point* p : {&(*turn)->asked, &(*turn)->before}) {
      if (fits(*p)) return p;
    }
  }
  return fits(resumed_) ? &resumed_ : nullptr;
}

// Tokens of the prompt behind the text that was fed. Where a tokenizer treats the beginning of a
// text in its own way, the difference of both encodings is the continuation.
std::vector<int32_t> Chat::unread(const std::string& prompt) const {
  if (fed_.empty()) return tokenizer_.encode(prompt, kTemplateText);
  const auto before = tokenizer_.encode(fed_, kTemplateText);
  const auto all = tokenizer_.encode(prompt, kTemplateText);
  if (before.size() <= all.size() && std::equal(before.begin(), before.end(), all.begin())) {
    return {all.begin() + std::ssize(before), all.end()};
  }
  return tokenizer_.encode(std::string_view(prompt).substr(fed_.size()), kTemplateText);
}

ChatAnswer Chat::say(std::string_view message, FunctionRef<bool(std::string_view)> on_text) {
  Turn turn{here(), {}};
  ChatAnswer answer;
  try {
    messages_.push(Json::object({{"role", "user"}, {"content", message}}));
    const std::string prompt = prompt_of(messages_);
    const int64_t had = std::ssize(sequence_.tokens);
    if (!prompt.starts_with(fed_)) rewind(prompt);
    answer.kept = std::ssize(sequence_.tokens);
    answer.reread = had - answer.kept;
    const std::vector<int32_t> ids = unread(prompt);
    GenerateConfig ask = config_.generate;
    ask.max_tokens = 0;
    const double start = now_seconds();
    generate(ctx_, model_, tokenizer_, sequence_, ids, ask, on_text);
    const double seconds = now_seconds() - start;
    fed_ = prompt;
    turn.asked = here();
    answer.result = generate(ctx_, model_, tokenizer_, sequence_, {}, config_.generate, on_text);
    answer.result.prompt_tokens = std::ssize(ids);
    answer.result.prefill_seconds = seconds;
    fed_ += spelled(tokenizer_, answer.result.tokens);
    messages_.push(Json::object({{"role", "assistant"}, {"content", answer.result.text}}));
  } catch (...) {
    ctx_.arena->trim();  // what the turn left behind counts against a budget
    go_to(turn.before);
    ctx_.arena->trim();
    throw;
  }
  turns_.push_back(std::make_shared<Turn>(std::move(turn)));
  forget_old_states();
  return answer;
}

void Chat::forget_old_states() {
  if (turns_.size() <= kKeptTurns) return;
  Turn& old = *turns_[turns_.size() - kKeptTurns - 1];
  old.has_states = false;
  old.before.sequence = {};
  old.asked.sequence = {};
}

bool Chat::undo() {
  if (turns_.empty()) return false;
  const std::shared_ptr<Turn> turn = turns_.back();
  turns_.pop_back();
  if (turn->has_states) {
    go_to(turn->before);
  } else {
    messages_ = turn->before.messages;
    fed_.clear();
    sequence_ = fresh();
  }
  return true;
}

void Chat::fork() { forks_.push_back({here(), turns_}); }

bool Chat::back() {
  if (forks_.empty()) return false;
  go_to(forks_.back().point);
  turns_ = std::move(forks_.back().turns);
  forks_.pop_back();
  return true;
}

std::string Chat::notes() const {
  const bool turn = !turns_.empty() && turns_.back()->has_states;
  return Json::object({{"messages", messages_},
                       {"fed", hex(fed_)},
                       {"asked", hex(turn ? turns_.back()->asked.fed : resumed_.fed)}})
      .dump();
}

const SequenceState* Chat::earlier() const {
  Json next = messages_;
  next.push(Json::object({{"role", "user"}, {"content", ""}}));
  try {
    if (prompt_of(next).starts_with(fed_)) return nullptr;
  } catch (const Error&) {
    // The template refuses an empty message: keep the state.
  }
  if (!turns_.empty() && turns_.back()->has_states) return &turns_.back()->asked.sequence;
  return resumed_.sequence.tokens.empty() ? nullptr : &resumed_.sequence;
}

std::string Chat::prompt_of(const Json& messages) const {
  ChatOptions options;
  options.extras = config_.variables;
  return template_.render(messages, config_.tools, options);
}

void Chat::resume(SequenceState sequence, const std::string& notes, SequenceState earlier) {
  const Json json = Json::parse(notes);
  const Json& messages = json.at("messages");
  messages.elements();  // must be a list
  std::string fed = unhex(json.at("fed").as_string());
  std::string asked = unhex(json.at("asked").as_string());
  // The turns that are in the file as words: /undo reads what is left of them again.
  std::vector<std::shared_ptr<Turn>> turns;
  Json said = Json::array();
  for (const Json& m : messages.elements()) {
    if (m.at("role").as_string() == "user") {
      Turn turn;
      turn.before.messages = said;
      turn.has_states = false;
      turns.push_back(std::make_shared<Turn>(std::move(turn)));
    }
    said.push(m);
  }
  config_.generate.sampling.seed = sequence.seed;
  messages_ = messages;
  fed_ = std::move(fed);
  sequence_ = std::move(sequence);
  resumed_ = {{}, std::move(asked), std::move(earlier)};
  turns_ = std::move(turns);
  forks_.clear();
}

}  // namespace braid

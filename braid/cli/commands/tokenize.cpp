// Text to tokens, tokens to text, and what that costs.

#include <cstdio>
#include <iterator>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/cli/command.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/importers/model_path.h"
#include "braid/text/token_list.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/train/checkpoint.h"

namespace braid {
namespace {

constexpr size_t kMostBytes = size_t{4} << 30;

struct Flags {
  std::string model, tokenizer, text, file;
  std::function<bool()> has_text;
  bool ids = false, decode = false, json = false, count = false;
  bool no_special = false, no_recognise = false, skip_special = false;
};

std::string read_stdin() {
  std::string all;
  char buffer[1 << 16];
  size_t n;
  while ((n = std::fread(buffer, 1, sizeof(buffer), stdin)) > 0) {
    all.append(buffer, n);
    if (all.size() > kMostBytes) {
      throw Error(ErrorKind::kBadInput,
                  format("standard input is longer than {} bytes", kMostBytes));
    }
  }
  if (std::ferror(stdin)) throw Error(ErrorKind::kBadInput, "cannot read standard input");
  return all;
}

bool reads_stdin(const Flags& f) { return !f.has_text() && (f.file.empty() || f.file == "-"); }

std::string input_of(const Flags& f) {
  if (f.has_text() && !f.file.empty()) {
    throw Error(ErrorKind::kUsage, "TEXT and --file are both given; use one");
  }
  if (f.has_text()) return f.text;
  return reads_stdin(f) ? read_stdin() : read_file(f.file, kMostBytes);
}

std::shared_ptr<const Tokenizer> open_tokenizer(const Flags& f) {
  if (f.model.empty() == f.tokenizer.empty()) {
    throw Error(ErrorKind::kUsage, "give a folder as --model or a tokenizer.json as --tokenizer");
  }
  if (!f.tokenizer.empty() && !is_folder(f.tokenizer)) {
    const std::string text = read_file(f.tokenizer, kMostBytes);
    const std::string config = join_path(parent_path(f.tokenizer), "tokenizer_config.json");
    try {
      return parse_tokenizer_json(text, path_exists(config) ? read_file(config, kMostBytes) : "");
    } catch (Error& e) {
      throw e.add_context(f.tokenizer);
    }
  }
  std::string folder = f.model.empty() ? f.tokenizer : f.model;
  if (is_folder(folder)) {
    if (const auto newest = find_checkpoint(folder, {})) folder = newest->path;  // of a run
  }
  if (is_gguf_file(folder)) {
    const std::shared_ptr<const Tokenizer> own = gguf_tokenizer(GgufFile::open(folder));
    if (own == nullptr) throw Error(ErrorKind::kBadInput, format("{} has no vocabulary", folder));
    return own;
  }
  if (!is_folder(folder)) require_model(folder);
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(folder);
  return tokenizer != nullptr ? tokenizer : byte_tokenizer();
}

int decode(const Flags& f, const Tokenizer& tokenizer) {
  const std::string from = f.has_text() ? "TEXT" : reads_stdin(f) ? "standard input" : f.file;
  const std::vector<int32_t> ids = read_ids(input_of(f), from);
  for (const int32_t id : ids) {
    if (id >= tokenizer.vocab_size()) {
      throw Error(ErrorKind::kUsage,
                  format("token {} is not below the vocabulary of {}", id, tokenizer.vocab_size()));
    }
  }
  const std::string text = tokenizer.decode(ids, f.skip_special);
  if (f.json) {
    std::puts(Json::object({{"text", text}, {"tokens", std::ssize(ids)}}).dump().c_str());
    return 0;
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  return 0;
}

void print_ids(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) {
    out += out.empty() ? "" : ",";
    out += format("{}", id);
  }
  std::puts(out.c_str());
}

// A token's own text, quoted as JSON does, or its bytes when they are no text.
std::string shown_text(const Tokenizer& tokenizer, int32_t id) {
  const std::string own = tokenizer.decode_bytes({&id, 1});
  if (tokenizer.decode({&id, 1}) == own) return Json(own).dump();
  std::string out;
  for (const char c : own) out += format("\\x{:02X}", static_cast<uint8_t>(c));
  return out;
}

// A line for each: its id, how the vocabulary spells it, its text.
void print_pieces(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) {
    out += format("{:8}  {:<20} {}{}\n", id, tokenizer.id_to_token(id).value_or(""),
                  shown_text(tokenizer, id), tokenizer.is_special(id) ? "  special" : "");
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
}

Json as_json(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, size_t bytes,
             double seconds, bool count_only) {
  Json out =
      Json::object({{"tokenizer", tokenizer.describe()},
                    {"vocab_size", tokenizer.vocab_size()},
                    {"bytes", bytes},
                    {"tokens", std::ssize(ids)},
                    {"bytes_per_token", static_cast<double>(bytes) /
                                            static_cast<double>(std::max<size_t>(1, ids.size()))},
                    {"seconds", seconds},
                    {"bytes_per_second", static_cast<double>(bytes) / std::max(seconds, 1e-9)}});
  if (count_only) return out;
  Json numbers = Json::array(), pieces = Json::array();
  for (const int32_t id : ids) {
    numbers.push(id);
    pieces.push(tokenizer.id_to_token(id).value_or(""));
  }
  out.set("ids", std::move(numbers));
  out.set("pieces", std::move(pieces));
  return out;
}

int run(Flags& f) {
  const std::shared_ptr<const Tokenizer> tokenizer = open_tokenizer(f);
  if (f.decode) return decode(f, *tokenizer);
  const std::string text = input_of(f);
  const double start = now_seconds();
  const std::vector<int32_t> ids = tokenizer->encode(text, {!f.no_special, !f.no_recognise});
  const double seconds = now_seconds() - start;
  if (f.json) {
    std::puts(as_json(*tokenizer, ids, text.size(), seconds, f.count).dump().c_str());
    return 0;
  }
  if (f.ids) {
    print_ids(ids);
  } else if (!f.count) {
    print_pieces(*tokenizer, ids);
  }
  std::fprintf(
      f.count ? stdout : stderr, "%zd tokens of %zu bytes, %.2f bytes a token, %.1f MB/s; %s\n",
      std::ssize(ids), text.size(),
      static_cast<double>(text.size()) / static_cast<double>(std::max<size_t>(1, ids.size())),
      static_cast<double>(text.size()) / 1e6 / std::max(seconds, 1e-9),
      tokenizer->describe().c_str());
  return 0;
}

}  // namespace

std::function<int()> setup_tokenize(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  app.add_option(
      "-m,--model", f->model,
      "Model folder (tokenizer.json, tiktoken.model, or neither for bytes) or GGUF file");
  app.add_option("--tokenizer", f->tokenizer, "A tokenizer.json, or a folder with one");
  CLI::Option* text = app.add_option("text", f->text, "Text; or --file; else standard input");
  f->has_text = [text] { return text->count() > 0; };
  app.add_option("-f,--file", f->file, "Text from a file");
  app.add_flag("--ids", f->ids, "Only the ids, on one line");
  app.add_flag("--count", f->count, "Only the summary");
  app.add_flag("--decode", f->decode, "The input is ids; prints their text");
  app.add_flag("--json", f->json, "Result as JSON");
  app.add_flag("--no-special", f->no_special, "Without the tokens put around a text (bos)");
  app.add_flag("--untrusted", f->no_recognise, "Special tokens spelled in the text stay text");
  app.add_flag("--skip-special", f->skip_special, "With --decode: without special tokens");
  app.footer("Example: braid tokenize -m tok \"Hello world\"");
  return [f] { return run(*f); };
}

}  // namespace braid

#include "braid/train/data_tokenizer.h"

#include <algorithm>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/formats/safetensors.h"

namespace braid {
namespace {

// Other ids of the same text and tokenizer need another one.
constexpr int kEncodingVersion = 1;

std::string made_from(const std::string& text_digest) {
  return format("{}-{}", kEncodingVersion, text_digest);
}

std::string index_path(const std::string& stem) { return stem + ".tokens.index.safetensors"; }

// The cache when it is whole; the index is written last, so that it stands for complete ids.
std::optional<TokenCache> open_cache(const std::string& stem, int64_t vocab,
                                     const std::string& text_digest) {
  if (!file_size(stem + ".tokens") || !file_size(index_path(stem))) return std::nullopt;
  try {
    const SafetensorsFile index = SafetensorsFile::open(index_path(stem));
    TokenCache c{MappedFile::open(stem + ".tokens"), index.to_i64("document_ends"), 0, {}, 0};
    const std::vector<int64_t> begin = index.to_i64("held_out_begin");
    const auto ids = c.ids();
    const bool whole =
        index.metadata("text") == made_from(text_digest) && begin.size() == 1 && begin[0] >= 0 &&
        begin[0] <= std::ssize(ids) && !c.document_ends.empty() && c.document_ends.front() > 0 &&
        std::is_sorted(c.document_ends.begin(), c.document_ends.end()) &&
        c.document_ends.back() == std::ssize(ids) &&
        std::all_of(ids.begin(), ids.end(), [&](int32_t id) { return id >= 0 && id < vocab; }) &&
        format("{:016x}", digest_of(c.file->text())) == index.metadata("digest");
    if (!whole) return std::nullopt;
    c.held_out_begin = begin[0];
    return c;
  } catch (const Error&) {
    return std::nullopt;  // damaged: made again from the text
  }
}

void build_cache(const Tokenizer& tokenizer, std::string_view text,
                 std::span<const int64_t> document_ends, int64_t held_out_begin,
                 const std::string& text_digest, const std::string& stem) {
  AtomicFile file(stem + ".tokens");
  std::vector<int64_t> ends;
  int64_t tokens = 0, begin = 0, held_out = 0;
  const auto add = [&](int64_t end) {
    const std::string_view part =
        text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const std::vector<int32_t> ids = tokenizer.encode(part, {.allow_special = false});
    file.write(ids.data(), ids.size() * sizeof(int32_t));
    tokens += std::ssize(ids);
    if (!ids.empty()) ends.push_back(tokens);
    begin = end;
  };
  for (const int64_t end : document_ends) {
    if (begin < held_out_begin && held_out_begin <= end) {
      add(held_out_begin);
      held_out = tokens;
    }
    if (begin < end) add(end);
  }
  if (tokens == 0) throw Error(ErrorKind::kBadInput, "the tokenizer makes no token of this text");
  file.commit();
  SafetensorsWriter index;
  index.set_metadata("text", made_from(text_digest));
  index.set_metadata("digest", format("{:016x}", file.digest()));
  const int64_t count = std::ssize(ends);
  index.add_i64("document_ends", {count}, std::move(ends));
  index.add_i64("held_out_begin", {1}, {held_out});
  index.write(index_path(stem));
}

}  // namespace

DataTokenizer data_tokenizer(TokenizerFiles files, const std::string& where) {
  DataTokenizer out;
  out.files = std::move(files);
  out.digest = format("{:016x}", digest_of(out.files.tokenizer + '\0' + out.files.config));
  try {
    out.tokenizer = parse_tokenizer_json(out.files.tokenizer, out.files.config);
  } catch (Error& e) {
    throw e.add_context(where);
  }
  return out;
}

DataTokenizer load_data_tokenizer(const std::string& path) {
  constexpr size_t kMostBytes = size_t{1} << 30;
  const std::string file = is_folder(path) ? join_path(path, "tokenizer.json") : path;
  const size_t slash = file.rfind('/');
  TokenizerFiles files;
  NamedTexts beside;
  files.tokenizer = read_file(file, kMostBytes);
  for (NamedText& t : read_model_texts(slash == file.npos ? "." : file.substr(0, slash))) {
    if (t.name == "tokenizer.json") continue;
    if (t.name == "tokenizer_config.json") {
      files.config = std::move(t.text);
    } else {
      beside.push_back(std::move(t));
    }
  }
  DataTokenizer out = data_tokenizer(std::move(files), file);
  out.beside = std::move(beside);
  return out;
}

std::vector<int32_t> token_bytes(const Tokenizer& tokenizer) {
  // After another token, for some decoders take the blank off a text's first one.
  const std::vector<int32_t> before = tokenizer.encode("a", {.add_special_tokens = false});
  const size_t base = tokenizer.decode_bytes(before).size();
  std::vector<int32_t> bytes(static_cast<size_t>(tokenizer.vocab_size()), 0);
  std::vector<int32_t> ids = before;
  ids.push_back(0);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id) || !tokenizer.id_to_token(id)) continue;
    ids.back() = id;
    const size_t size = tokenizer.decode_bytes(ids).size();
    bytes[static_cast<size_t>(id)] = static_cast<int32_t>(size > base ? size - base : 0);
  }
  return bytes;
}

TokenCache open_token_cache(const DataTokenizer& tokenizer, std::string_view text,
                            const std::string& text_digest, std::span<const int64_t> document_ends,
                            int64_t held_out_begin, const std::string& stem) {
  const Tokenizer& t = *tokenizer.tokenizer;
  std::optional<TokenCache> cache = open_cache(stem, t.vocab_size(), text_digest);
  if (!cache) {
    build_cache(t, text, document_ends, held_out_begin, text_digest, stem);
    cache = open_cache(stem, t.vocab_size(), text_digest);
    BRAID_CHECK(cache.has_value());
  }
  cache->bytes_of = token_bytes(t);
  for (const int32_t id : cache->ids())
    cache->told_bytes += cache->bytes_of[static_cast<size_t>(id)];
  cache->file->release_pages();  // all of it was read to check its digest
  return std::move(*cache);
}

}  // namespace braid

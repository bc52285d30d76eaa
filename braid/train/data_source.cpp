#include "braid/train/data_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"

namespace braid {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr size_t kLongestLine = size_t{100} << 20;  // of JSONL: what Json::parse takes
constexpr double kMaxBrokenShare = 0.05;            // latin-1 prose passes, random bytes do not

using TextSink = FunctionRef<void(std::string_view)>;

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}", path, what));
}

// Counts what is not UTF-8 text in a stream of pieces.
class TextCheck {
 public:
  void add(std::string_view piece) {
    if (!first_nul_) {
      const size_t at = piece.find('\0');
      if (at != piece.npos) first_nul_ = total_ + at;
    }
    total_ += piece.size();
    size_t i = 0;
    while (i < piece.size()) {
      if (need_ == 0) i = skip_ascii(piece, i);
      if (i < piece.size()) byte(static_cast<unsigned char>(piece[i++]));
    }
  }
  std::optional<uint64_t> first_nul() const { return first_nul_; }
  uint64_t broken() const { return broken_ + static_cast<uint64_t>(need_ > 0 ? seen_ : 0); }
  double broken_share() const {
    return total_ == 0 ? 0 : static_cast<double>(broken()) / static_cast<double>(total_);
  }

 private:
  static size_t skip_ascii(std::string_view piece, size_t i) {
    for (; i + 8 <= piece.size(); i += 8) {
      uint64_t w;
      std::memcpy(&w, piece.data() + i, 8);
      if ((w & 0x8080808080808080ULL) != 0) break;
    }
    while (i < piece.size() && static_cast<unsigned char>(piece[i]) < 0x80) ++i;
    return i;
  }
  void byte(unsigned char c) {
    if (need_ > 0) {
      if (c >= low_ && c <= high_) {
        ++seen_;
        low_ = 0x80, high_ = 0xBF;
        if (--need_ == 0) seen_ = 0;
        return;
      }
      broken_ += static_cast<uint64_t>(seen_);
      need_ = seen_ = 0;
    }
    start(c);
  }
  // The first byte of a character; the bounds refuse overlong forms, surrogates and what is above
  // U+10FFFF.
  void start(unsigned char c) {
    low_ = 0x80, high_ = 0xBF;
    if (c < 0x80) return;
    if (c >= 0xC2 && c <= 0xDF)
      need_ = 1;
    else if (c >= 0xE0 && c <= 0xEF)
      need_ = 2;
    else if (c >= 0xF0 && c <= 0xF4)
      need_ = 3;
    else
      ++broken_;
    if (c == 0xE0) low_ = 0xA0;
    if (c == 0xED) high_ = 0x9F;
    if (c == 0xF0) low_ = 0x90;
    if (c == 0xF4) high_ = 0x8F;
    if (need_ > 0) seen_ = 1;
  }

  std::optional<uint64_t> first_nul_;
  uint64_t total_ = 0, broken_ = 0;
  int need_ = 0, seen_ = 0;
  unsigned char low_ = 0x80, high_ = 0xBF;
};

void inflate_gzip(const MappedFile& file, TextSink sink) {
  z_stream z{};
  if (inflateInit2(&z, 15 + 16) != Z_OK) throw Error(ErrorKind::kInternal, "zlib does not start");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&z, inflateEnd);
  std::string out(kPiece, '\0');
  size_t at = 0;
  bool member_done = false;
  while (at < file.size() || !member_done) {
    if (member_done) {  // a further member, as gzip and dictzip append them
      if (inflateReset(&z) != Z_OK) throw Error(ErrorKind::kInternal, "zlib does not reset");
      member_done = false;
    }
    const size_t given = std::min(file.size() - at, kPiece);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(file.data() + at));
    z.avail_in = static_cast<uInt>(given);
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const int status = inflate(&z, Z_NO_FLUSH);
    at += given - z.avail_in;
    const size_t made = out.size() - z.avail_out;
    if (status == Z_BUF_ERROR && at == file.size() && made == 0) {
      bad(file.path(),
          format("the gzip data ends early, after {} bytes (an incomplete download?)", at));
    }
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      bad(file.path(),
          format("damaged gzip data near byte {}: {}", at, z.msg != nullptr ? z.msg : "not gzip"));
    }
    if (made > 0) sink(std::string_view(out).substr(0, made));
    member_done = status == Z_STREAM_END;
  }
}

void inflate_zstd(const MappedFile& file, TextSink sink) {
  const std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> z(ZSTD_createDStream(),
                                                                   ZSTD_freeDStream);
  if (z == nullptr) throw Error(ErrorKind::kInternal, "zstd does not start");
  std::string out(kPiece, '\0');
  ZSTD_inBuffer in{file.data(), file.size(), 0};
  bool full = false;
  size_t hint = 1;  // 0 = a frame is complete
  while (in.pos < in.size || full) {
    ZSTD_outBuffer o{out.data(), out.size(), 0};
    hint = ZSTD_decompressStream(z.get(), &o, &in);
    if (ZSTD_isError(hint) != 0) {
      bad(file.path(),
          format("damaged zstd data near byte {}: {}", in.pos, ZSTD_getErrorName(hint)));
    }
    if (o.pos > 0) sink(std::string_view(out).substr(0, o.pos));
    full = o.pos == o.size && hint != 0;  // after the end of a frame nothing is held back
  }
  if (hint != 0) {
    bad(file.path(),
        format("the zstd data ends early, after {} bytes (an incomplete download?)", file.size()));
  }
}

void plain_bytes(const MappedFile& file, TextSink sink) {
  const std::string_view text = file.text();
  for (size_t at = 0; at < text.size(); at += kPiece) sink(text.substr(at, kPiece));
}

// Lines of a stream of pieces, without their ends.
class Lines {
 public:
  explicit Lines(const std::string& path) : path_(path) {}
  template <typename Use>
  void add(std::string_view piece, Use&& use) {
    for (size_t end; (end = piece.find('\n')) != piece.npos; piece.remove_prefix(end + 1)) {
      hold(piece.substr(0, end));
      use(++number_, std::string_view(held_));
      held_.clear();
    }
    hold(piece);
  }
  template <typename Use>
  void finish(Use&& use) {
    if (!held_.empty()) use(++number_, std::string_view(held_));
  }

 private:
  // A small packed file can hold a line that no memory does.
  void hold(std::string_view part) {
    if (part.size() > kLongestLine - held_.size())
      bad(path_, format("line {} is longer than {} bytes", number_ + 1, kLongestLine));
    held_.append(part);
  }

  const std::string& path_;
  std::string held_;
  int64_t number_ = 0;
};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

void json_line(const std::string& path, int64_t number, std::string_view line,
               const DocumentSink& sink) {
  if (is_blank(line)) return;
  Json value;
  try {
    value = Json::parse(line);
  } catch (Error& e) {
    throw e.add_context(format("{}: line {}", path, number));
  }
  const Json* text = value.is_object() ? value.find("text") : nullptr;
  if (text == nullptr || !text->is_string()) {
    bad(path, format("line {} is not an object with a \"text\" string", number));
  }
  if (text->as_string().empty()) return;
  sink.text(text->as_string());
  sink.end_document();
}

enum class Packing { kPlain, kGzip, kZstd };

// By name, or by the first bytes where the name says nothing.
Packing packing_of(const MappedFile& file, std::string_view& name) {
  for (const std::string_view end : {".gz", ".dz"}) {
    if (name.ends_with(end)) {
      name.remove_suffix(end.size());
      return Packing::kGzip;
    }
  }
  if (name.ends_with(".zst")) {
    name.remove_suffix(4);
    return Packing::kZstd;
  }
  if (file.text().starts_with("\x1f\x8b\x08")) return Packing::kGzip;
  if (file.text().starts_with("\x28\xb5\x2f\xfd")) return Packing::kZstd;
  return Packing::kPlain;
}

void unpack(const MappedFile& file, Packing packing, TextSink sink) {
  switch (packing) {
    case Packing::kPlain:
      return plain_bytes(file, sink);
    case Packing::kGzip:
      return inflate_gzip(file, sink);
    case Packing::kZstd:
      return inflate_zstd(file, sink);
  }
}

}  // namespace

std::vector<SourceFile> list_sources(const std::string& path) {
  if (!path_exists(path)) bad(path, "no such file or folder");
  std::vector<std::string> paths;
  if (is_folder(path)) {
    for (std::string& file : list_files_below(path)) {
      // Version control and editors keep theirs in hidden folders.
      const std::string_view inside = std::string_view(file).substr(path.size());
      if (inside.find("/.") == inside.npos) paths.push_back(std::move(file));
    }
    if (paths.empty()) bad(path, "the folder holds no files");
  } else {
    paths.push_back(path);
  }
  std::vector<SourceFile> sources;
  for (std::string& file : paths) {
    const std::optional<FileInfo> info = file_info(file);
    if (!info) bad(file, "neither a file nor a folder");
    sources.push_back({std::move(file), info->bytes, info->modified_ns});
  }
  return sources;
}

void read_documents(const std::string& path, bool allow_binary, const DocumentSink& sink) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  if (file->size() == 0) return;
  std::string_view name = path;
  const Packing packing = packing_of(*file, name);
  if (name.ends_with(".jsonl") || name.ends_with(".ndjson")) {
    Lines lines(path);
    const auto line = [&](int64_t number, std::string_view text) {
      json_line(path, number, text, sink);
    };
    unpack(*file, packing, [&](std::string_view piece) { lines.add(piece, line); });
    lines.finish(line);
    return;
  }
  TextCheck check;
  bool any = false;
  unpack(*file, packing, [&](std::string_view piece) {
    if (!allow_binary) {
      check.add(piece);
      if (check.first_nul()) {
        bad(path, format("not text: byte {} is NUL (--data-binary trains on the bytes as they are)",
                         *check.first_nul()));
      }
    }
    any = true;
    sink.text(piece);
  });
  if (check.broken_share() > kMaxBrokenShare) {
    bad(path, format("not text: {:.0f} % of its bytes are not UTF-8, more than {:.0f} % "
                     "(--data-binary trains on the "
                     "bytes as they are)",
                     100 * check.broken_share(), 100 * kMaxBrokenShare));
  }
  if (any) sink.end_document();
}

}  // namespace braid

#include "braid/state/state_file.h"

#include <charconv>
#include <cstring>

#include "braid/base/format.h"

namespace braid {
namespace {

constexpr const char* kVersionKey = "braid_state_version";
constexpr const char* kVersion = "1";
constexpr const char* kDigestKey = "braid_state_digest";

std::string integer_key(std::string_view name) { return format("int.{}", name); }

void digest_text(FileDigest& digest, std::string_view text) {
  digest.add(text.data(), text.size());
}

// The digest of the integers and of every tensor, in the order of their names: what was written,
// however it is laid out.
uint64_t content_digest(const SafetensorsFile& file) {
  FileDigest all;
  for (const auto& [key, value] : file.metadata()) {
    if (key == kDigestKey) continue;
    digest_text(all, key);
    digest_text(all, value);
  }
  std::map<std::string_view, const SafetensorsEntry*> sorted;
  for (const SafetensorsEntry& e : file.entries()) sorted.emplace(e.name, &e);
  for (const auto& [name, entry] : sorted) {
    digest_text(all, name);
    const auto bytes = file.bytes(*entry);
    all.add(bytes.data(), bytes.size());
  }
  return all.value();
}

}  // namespace

void StateFileWriter::tensor(std::string_view name, const Tensor& value) {
  out_.add(std::string(name), value);
}

void StateFileWriter::integer(std::string_view name, int64_t value) {
  out_.set_metadata(integer_key(name), format("{}", value));
}

void StateFileWriter::text(const std::string& key, std::string value) {
  out_.set_metadata(key, std::move(value));
}

void StateFileWriter::write(const std::string& path) {
  out_.set_metadata(kVersionKey, kVersion);
  const std::string plain = out_.bytes();
  const auto owner = std::make_shared<int>(0);
  const SafetensorsFile parsed =
      SafetensorsFile::parse(owner, std::as_bytes(std::span(plain.data(), plain.size())), path);
  out_.set_metadata(kDigestKey, format("{:016x}", content_digest(parsed)));
  out_.write(path);
}

StateFileReader::StateFileReader(const Context& ctx, const std::string& path)
    : ctx_(ctx), file_(SafetensorsFile::open(path)) {
  const auto& metadata = file_.metadata();
  const auto version = metadata.find(kVersionKey);
  if (version == metadata.end())
    throw Error(ErrorKind::kBadInput, path + " is not a saved braid state");
  if (version->second != kVersion) {
    throw Error(ErrorKind::kBadInput,
                format("{} is a state of version {}; this braid reads version {}", path,
                       version->second, kVersion));
  }
  const auto digest = metadata.find(kDigestKey);
  const std::string actual = format("{:016x}", content_digest(file_));
  if (digest == metadata.end() || digest->second != actual) {
    throw Error(ErrorKind::kBadInput,
                format("{} is damaged: its digest is {}, its content gives {}", path,
                       digest == metadata.end() ? "missing" : digest->second, actual));
  }
}

Tensor StateFileReader::tensor(std::string_view name, Shape shape, DType dtype) {
  const Tensor stored = file_.tensor(name);
  bool fits = stored.rank() == shape.rank() && stored.dtype() == dtype;
  for (int i = 0; fits && i < shape.rank(); ++i) fits = shape[i] < 0 || shape[i] == stored.size(i);
  if (!fits) {
    throw Error(ErrorKind::kBadInput, format("{}: {} is {} {}, the model needs {} {}", file_.path(),
                                             name, dtype_name(stored.dtype()), stored.shape().str(),
                                             dtype_name(dtype), shape.str()));
  }
  Tensor copy = Tensor::empty(ctx_, stored.shape(), dtype);  // the mapping is read-only
  std::memcpy(copy.data<std::byte>(), stored.data<std::byte>(), stored.bytes());
  return copy;
}

int64_t StateFileReader::integer(std::string_view name) {
  const std::string& text = file_.metadata(integer_key(name));
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(ErrorKind::kBadInput,
                format("{}: {} is \"{}\", not a whole number", file_.path(), name, text));
  }
  return value;
}

bool StateFileReader::has_text(const std::string& key) const {
  return file_.metadata().contains(key);
}

std::string StateFileReader::text(const std::string& key) const { return file_.metadata(key); }

}  // namespace braid

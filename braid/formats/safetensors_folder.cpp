#include "braid/formats/safetensors_folder.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"

namespace braid {
namespace {

constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr size_t kListed = 5;  // names that a message spells out

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kBadInput, format("{}: {}", path, what));
}

bool plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i)
    text += format("{}\"{}\"", i > 0 ? ", " : "", names[i]);
  if (names.size() > kListed) text += format(" and {} more", names.size() - kListed);
  return text;
}

std::string single_path(const std::string& folder, const std::string& stem) {
  return join_path(folder, stem + ".safetensors");
}

std::string index_path(const std::string& folder, const std::string& stem) {
  return join_path(folder, stem + ".safetensors.index.json");
}

}  // namespace

SafetensorsIndex SafetensorsIndex::parse(std::string_view json, const std::string& path) {
  SafetensorsIndex index;
  try {
    const Json tree = Json::parse(json, {.bytes = kMaxIndexBytes, .depth = 8});
    const Json* map = tree.is_object() ? tree.find("weight_map") : nullptr;
    if (map == nullptr || !map->is_object())
      throw Error(ErrorKind::kBadInput, "there is no object \"weight_map\"");
    for (const auto& [name, file] : map->members()) {
      if (!file.is_string() || !plain_file_name(file.as_string())) {
        throw Error(ErrorKind::kBadInput,
                    format("the file of tensor \"{}\" is {}, not a file name of this folder", name,
                           file.dump()));
      }
      index.files.emplace(name, file.as_string());
    }
  } catch (Error& e) {
    throw e.add_context(path);
  }
  return index;
}

bool SafetensorsFolder::present(const std::string& folder, const std::string& stem) {
  return path_exists(single_path(folder, stem)) || path_exists(index_path(folder, stem));
}

SafetensorsFolder SafetensorsFolder::of_file(const std::string& path) {
  SafetensorsFolder f;
  f.path_ = path;
  f.files_.push_back(SafetensorsFile::open(path));
  const auto& entries = f.files_[0].entries();
  for (size_t i = 0; i < entries.size(); ++i) f.by_name_[entries[i].name] = {0, i};
  return f;
}

SafetensorsFolder SafetensorsFolder::open(const std::string& folder, const std::string& stem) {
  if (path_exists(single_path(folder, stem))) {
    SafetensorsFolder f = of_file(single_path(folder, stem));
    f.path_ = folder;
    return f;
  }
  const std::string path = index_path(folder, stem);
  if (!path_exists(path)) {
    bad(folder, format("there is neither {} nor {}", file_name(single_path(folder, stem)),
                       file_name(path)));
  }
  const SafetensorsIndex index = SafetensorsIndex::parse(read_file(path, kMaxIndexBytes), path);
  SafetensorsFolder f;
  f.path_ = folder;
  std::map<std::string, size_t> opened;
  for (const auto& [name, file] : index.files) {
    const std::string shard = join_path(folder, file);
    if (!path_exists(shard))
      bad(path,
          format("{} is named for tensor \"{}\" and others, but is not there; download it too",
                 file, name));
    if (opened.emplace(file, f.files_.size()).second)
      f.files_.push_back(SafetensorsFile::open(shard));
  }
  std::vector<std::string> missing, unnamed;
  for (const auto& [name, file] : index.files) {
    if (f.files_[opened.at(file)].find(name) == nullptr) missing.push_back(name);
  }
  if (!missing.empty())
    bad(path, format("{} not in the file that the index names for it", list_of(missing)));
  for (const auto& [file, number] : opened) {
    const auto& entries = f.files_[number].entries();
    for (size_t i = 0; i < entries.size(); ++i) {
      const auto named = index.files.find(entries[i].name);
      if (named != index.files.end() && named->second == file)
        f.by_name_[entries[i].name] = {number, i};
      else
        unnamed.push_back(entries[i].name);
    }
  }
  if (!unnamed.empty())
    bad(path, format("the shards hold {}, which the index does not place there", list_of(unnamed)));
  return f;
}

std::optional<SafetensorsFolder::Found> SafetensorsFolder::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return std::nullopt;
  const SafetensorsFile& file = files_[found->second.first];
  return Found{&file, &file.entries()[found->second.second]};
}

SafetensorsFolder::Found SafetensorsFolder::at(std::string_view name) const {
  const std::optional<Found> found = find(name);
  if (!found) bad(path_, format("there is no tensor \"{}\"", name));
  return *found;
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> out;
  for (const auto& [name, where] : by_name_) out.push_back(name);
  return out;
}

uint64_t SafetensorsFolder::data_bytes() const {
  uint64_t total = 0;
  for (const auto& [name, where] : by_name_) {
    const SafetensorsEntry& e = files_[where.first].entries()[where.second];
    total += e.end - e.begin;
  }
  return total;
}

SafetensorsFolderWriter::SafetensorsFolderWriter(std::string folder, uint64_t max_shard_bytes,
                                                 std::string stem)
    : folder_(std::move(folder)), max_shard_bytes_(max_shard_bytes), stem_(std::move(stem)) {}

void SafetensorsFolderWriter::add(std::string name, std::string dtype, std::vector<int64_t> shape,
                                  ByteSource source) {
  BRAID_CHECK(names_.insert(name).second);
  items_.push_back({make_safetensors_item(std::move(name), std::move(dtype), std::move(shape)),
                    std::move(source)});
}

std::vector<std::vector<SafetensorsFolderWriter::Item*>> SafetensorsFolderWriter::shards() {
  std::vector<std::vector<Item*>> out(1);
  uint64_t bytes = 0;
  for (Item& item : items_) {
    if (!out.back().empty() && bytes + item.head.bytes > max_shard_bytes_) {
      out.emplace_back();
      bytes = 0;
    }
    out.back().push_back(&item);
    bytes += item.head.bytes;
  }
  for (auto& shard : out) {
    std::sort(shard.begin(), shard.end(),
              [](const Item* a, const Item* b) { return safetensors_before(a->head, b->head); });
  }
  return out;
}

SafetensorsFolderWriter::Written SafetensorsFolderWriter::write(const ByteProgress& progress) {
  make_folders(folder_);
  const std::vector<std::vector<Item*>> parts = shards();
  Written written;
  std::vector<std::unique_ptr<AtomicFile>> files;
  Json map = Json::object();
  uint64_t total = 0, done = 0;
  for (const Item& item : items_) total += item.head.bytes;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name =
        parts.size() == 1 ? stem_ + ".safetensors"
                          : format("{}-{:05}-of-{:05}.safetensors", stem_, i + 1, parts.size());
    written.files.push_back(name);
    files.push_back(std::make_unique<AtomicFile>(join_path(folder_, name)));
    AtomicFile& file = *files.back();
    std::vector<SafetensorsItem> heads;
    for (const Item* item : parts[i]) heads.push_back(item->head);
    file.write(safetensors_header(heads, metadata_));
    for (const Item* item : parts[i]) {
      const uint64_t before = file.bytes();
      item->source([&](const void* data, size_t bytes) {
        file.write(data, bytes);
        done += bytes;
        if (progress) progress(done, total);
      });
      BRAID_CHECK(file.bytes() - before == item->head.bytes);
    }
    written.bytes += file.bytes();
  }
  for (const auto& file : files) file->commit();
  if (parts.size() == 1) {
    remove_file(index_path(folder_, stem_));
    return written;
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const Item* item : parts[i]) map.set(item->head.name, written.files[i]);
  }
  Json index = Json::object();
  index.set("metadata", Json::object({{"total_size", total}}));
  index.set("weight_map", std::move(map));
  const std::string text = index.dump_pretty();
  write_file(index_path(folder_, stem_), text);
  written.files.push_back(file_name(index_path(folder_, stem_)));
  written.bytes += text.size();
  remove_file(single_path(folder_, stem_));
  return written;
}

}  // namespace braid

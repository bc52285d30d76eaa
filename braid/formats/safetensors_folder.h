#pragma once
// The weights of a model folder as Hugging Face lays them out: STEM.safetensors, or
// STEM.safetensors.index.json with the shards it names. Other files are never looked at: some
// repositories hold a second copy of their weights in another form.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "braid/formats/byte_source.h"
#include "braid/formats/safetensors.h"

namespace braid {

// The "weight_map" of an index: tensor name to file name. Throws Error(kBadInput) for another form
// or for a file name that leaves the folder.
struct SafetensorsIndex {
  std::map<std::string, std::string, std::less<>> files;
  static SafetensorsIndex parse(std::string_view json, const std::string& path);
};

class SafetensorsFolder {
 public:
  // Opens every shard once. Throws Error(kBadInput) when there is neither file, when a tensor of
  // the map is not in its shard, and when a shard holds tensors that the map does not place there.
  static SafetensorsFolder open(const std::string& folder, const std::string& stem = "model");
  static bool present(const std::string& folder, const std::string& stem = "model");
  // One file, whatever its name.
  static SafetensorsFolder of_file(const std::string& path);

  struct Found {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
    std::span<const std::byte> bytes() const { return file->bytes(*entry); }
  };
  std::optional<Found> find(std::string_view name) const;
  Found at(std::string_view name) const;  // throws, naming the folder
  bool has(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  std::vector<std::string> names() const;  // sorted
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::string& path() const { return path_; }
  uint64_t data_bytes() const;  // of all tensors

 private:
  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::pair<size_t, size_t>, std::less<>> by_name_;  // file, entry
};

// Writes such a folder: shards of at most max_shard_bytes (a larger tensor has one of its own),
// filled in the order of add(). All files stand under temporary names until the last is complete;
// then they are renamed, the index last. What an earlier writing left under the other form's name
// is removed afterwards.
class SafetensorsFolderWriter {
 public:
  static constexpr uint64_t kDefaultShardBytes = uint64_t{5} << 30;
  explicit SafetensorsFolderWriter(std::string folder,
                                   uint64_t max_shard_bytes = kDefaultShardBytes,
                                   std::string stem = "model");
  // Any dtype of the format. The source must give exactly the bytes of dtype and shape.
  void add(std::string name, std::string dtype, std::vector<int64_t> shape, ByteSource source);
  void set_metadata(const std::string& key, std::string value) {
    metadata_[key] = std::move(value);
  }
  struct Written {
    std::vector<std::string> files;
    uint64_t bytes = 0;  // of all files
  };
  Written write(const ByteProgress& progress = {});

 private:
  struct Item {
    SafetensorsItem head;
    ByteSource source;
  };
  std::vector<std::vector<Item*>> shards();
  std::string folder_;
  uint64_t max_shard_bytes_;
  std::string stem_;
  std::vector<Item> items_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_{{"format", "pt"}};
};

}  // namespace braid

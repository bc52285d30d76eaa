#pragma once
// Files. Everything braid writes goes through here, so that a full disk is an error that names the
// path, a file is either the old or the new one whole, and a test can make any single operation
// fail (base/file_faults.h). All functions throw Error(kBadInput) with the path and the system's
// reason unless said otherwise.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

// A whole file in memory. Throws when it is larger than max_bytes, naming both sizes.
std::string read_file(const std::string& path, size_t max_bytes = SIZE_MAX);

// A read-only view of a file's bytes, paged in on use. The mapping lives as long as the object.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  // Gives the pages read so far back to the system; the next use pages them in again.
  void release_pages() const;

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  size_t size_;
};

// Advice about bytes of a mapped file. They will be read soon, from front to back ...
void will_need(const std::byte* data, size_t bytes);
// ... or they have been read and may leave this process; the next use pages them in again. Never
// for memory that is not a read-only mapping.
void done_with(const std::byte* data, size_t bytes);

// A 64-bit digest against damaged and cut files (not against attackers); equal for equal bytes
// however they are fed.
class FileDigest {
 public:
  void add(const void* data, size_t bytes);
  uint64_t value() const;

 private:
  void word(uint64_t w);
  uint64_t lanes_[4] = {1, 2, 3, 4};
  uint64_t count_ = 0;
  unsigned char partial_[8] = {};
};

uint64_t digest_of(std::string_view bytes);

// A new file that appears under `path` only when commit() has put all of it on the disk: written
// beside it under a temporary name, fsync, rename, fsync of the folder. Dropped without commit, it
// leaves nothing behind.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();
  uint64_t bytes() const { return bytes_; }
  uint64_t digest() const { return digest_.value(); }

 private:
  void flush();
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  std::string buffer_;
  uint64_t bytes_ = 0;
  FileDigest digest_;
};

void write_file(const std::string& path, std::string_view bytes);  // atomic

// Why write_file(path) would fail, "" where it would not: it is tried with nothing to write, which
// leaves nothing behind.
std::string why_no_file(const std::string& path);
// The same of files in a folder that may have to be made, with its parents.
std::string why_no_files_in(const std::string& folder);

// A log that grows: opened (made when missing), cut to `keep_bytes`, appended to. Every write
// reaches the system at once, so that a killed process loses none of it.
class AppendFile {
 public:
  AppendFile(const std::string& path, uint64_t keep_bytes);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  void write(std::string_view text);

 private:
  std::string path_;
  int fd_ = -1;
};

// Keeps other processes from a folder in which this one works, until it ends, however it ends.
// Throws Error(kUsage) when another one has it.
class FolderLock {
 public:
  explicit FolderLock(const std::string& path);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

bool path_exists(const std::string& path);
bool is_folder(const std::string& path);
std::optional<uint64_t> file_size(
    const std::string& path);  // of a regular file; nullopt when there is none
struct FileInfo {
  uint64_t bytes = 0;
  int64_t modified_ns = 0;  // since 1970
};
std::optional<FileInfo> file_info(const std::string& path);  // of a regular file
std::vector<std::string> list_folder(
    const std::string& path);  // names, sorted, without "." and ".."
// Paths of all regular files below `path`, sorted; links to folders are not followed.
std::vector<std::string> list_files_below(const std::string& path);
void make_folders(const std::string& path);  // with parents; fine when it exists
void rename_path(const std::string& from, const std::string& to);  // replaces a file; durable
// `to` becomes what `from` is, in one step; what stood there before is removed afterwards.
void replace_folder(const std::string& from, const std::string& to);
void remove_file(const std::string& path);    // fine when it is missing
void remove_folder(const std::string& path);  // with all it holds; fine when it is missing
void make_link(const std::string& target,
               const std::string& path);  // atomically replaces a symbolic link
std::string join_path(std::string_view folder, std::string_view name);
std::string absolute_path(
    const std::string& path);                    // by this process's folder; nothing is resolved
std::string parent_path(std::string_view path);  // "." for a bare name
std::string file_name(std::string_view path);

}  // namespace braid

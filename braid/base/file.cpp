#include "braid/base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "braid/base/error.h"
#include "braid/base/file_faults.h"
#include "braid/base/format.h"

namespace braid {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

std::atomic<int64_t> operations_done{0};
FileFaults::Kind fault_kind = FileFaults::Kind::kNone;
int64_t fault_nth = -1;
int fault_error = 0;

// True when this operation is to fail; errno is set then.
bool fails_now() {
  const int64_t n = operations_done.fetch_add(1, std::memory_order_relaxed);
  const bool now = fault_kind == FileFaults::Kind::kCrash ? n >= fault_nth : n == fault_nth;
  if (fault_kind == FileFaults::Kind::kNone || fault_kind == FileFaults::Kind::kShortWrite ||
      !now) {
    return false;
  }
  errno = fault_error;
  return true;
}

ssize_t write_some(int fd, const char* data, size_t bytes) {
  const int64_t n = operations_done.load(std::memory_order_relaxed);
  if (fails_now()) {
    if (fault_kind != FileFaults::Kind::kFail && n == fault_nth &&
        ::write(fd, data, bytes / 2) < 0) {
      return -1;
    }
    errno = fault_error;
    return -1;
  }
  const bool cut = fault_kind == FileFaults::Kind::kShortWrite && n == fault_nth && bytes > 1;
  return ::write(fd, data, cut ? bytes / 2 : bytes);
}

[[noreturn]] void fail(const char* what, const std::string& path) {
  const int error = errno;
  throw Error(ErrorKind::kBadInput, format("cannot {} {}: {}", what, path, std::strerror(error)));
}

void write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = write_some(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write", path);
    text.remove_prefix(static_cast<size_t>(n));
  }
}

int open_for_writing(const std::string& path, int flags) {
  return fails_now() ? -1 : ::open(path.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
}

bool sync_fd(int fd) { return !fails_now() && ::fsync(fd) == 0; }

void sync_folder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("open folder", folder);
  // Some file systems cannot sync a folder; a rename is then as durable as they make it.
  const bool ok = sync_fd(fd) || errno == EINVAL;
  const int error = errno;
  ::close(fd);
  errno = error;
  if (!ok) fail("sync folder", folder);
}

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat s;
    if (fd_ < 0 || fstat(fd_, &s) != 0) fail("read", path);
    if (!S_ISREG(s.st_mode)) {
      ::close(fd_);
      throw Error(ErrorKind::kBadInput,
                  format("cannot read {}: {}", path,
                         S_ISDIR(s.st_mode) ? "it is a folder" : "it is not a regular file"));
    }
    size_ = static_cast<size_t>(s.st_size);
  }
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }
  size_t size() const { return size_; }

 private:
  int fd_;
  size_t size_ = 0;
};

void collect_files(const std::string& folder, std::vector<std::string>& out) {
  for (const std::string& name : list_folder(folder)) {
    const std::string path = join_path(folder, name);
    struct stat s;
    if (lstat(path.c_str(), &s) != 0) fail("read", path);
    if (S_ISDIR(s.st_mode)) {
      collect_files(path, out);
    } else if (is_folder(path)) {
      continue;
    } else if (file_size(path)) {
      out.push_back(path);
    }
  }
}

}  // namespace

void FileFaults::arm(Kind kind, int64_t nth, int error) {
  fault_kind = kind;
  fault_nth = nth;
  fault_error = error;
  operations_done = 0;
}

void FileFaults::disarm() { arm(Kind::kNone, -1, 0); }

int64_t FileFaults::operations() { return operations_done; }

std::string read_file(const std::string& path, size_t max_bytes) {
  const OpenFile file(path);
  if (file.size() > max_bytes) {
    throw Error(ErrorKind::kBadInput,
                format("{} has {} bytes, more than the {} that such a file may have", path,
                       file.size(), max_bytes));
  }
  std::string text(file.size(), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(file.fd(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const OpenFile file(path);
  if (file.size() == 0) return std::shared_ptr<const MappedFile>(new MappedFile(path, nullptr, 0));
  void* p = mmap(nullptr, file.size(), PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (p == MAP_FAILED) fail("map", path);
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, static_cast<const std::byte*>(p), file.size()));
}

void MappedFile::release_pages() const {
  if (size_ > 0) madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

namespace {
void advise(const std::byte* data, size_t bytes, int advice) {
  if (bytes == 0) return;
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + bytes;
  madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}
}  // namespace

void will_need(const std::byte* data, size_t bytes) { advise(data, bytes, MADV_WILLNEED); }
void done_with(const std::byte* data, size_t bytes) { advise(data, bytes, MADV_DONTNEED); }

void FileDigest::word(uint64_t w) {
  // Each lane is a bijection of its word, so that one damaged word always shows.
  uint64_t& lane = lanes_[(count_ / 8) & 3];
  lane = (lane ^ w) * 0x9e3779b97f4a7c15ULL;
  lane ^= lane >> 29;
}

void FileDigest::add(const void* data, size_t bytes) {
  const unsigned char* p = static_cast<const unsigned char*>(data);
  while (bytes > 0) {
    const size_t held = count_ % 8;
    if (held == 0 && bytes >= 8) {
      uint64_t w;
      std::memcpy(&w, p, 8);
      word(w);
      p += 8, bytes -= 8, count_ += 8;
      continue;
    }
    const size_t n = std::min(bytes, 8 - held);
    std::memcpy(partial_ + held, p, n);
    if (held + n == 8) {
      uint64_t w;
      std::memcpy(&w, partial_, 8);
      word(w);
    }
    p += n, bytes -= n, count_ += n;
  }
}

uint64_t FileDigest::value() const {
  FileDigest end = *this;
  if (count_ % 8 != 0) {
    uint64_t w = 0;
    std::memcpy(&w, partial_, count_ % 8);
    end.word(w);
  }
  uint64_t h = count_;
  for (const uint64_t lane : end.lanes_) {
    h = (h ^ lane) * 0xd6e8feb86659fd93ULL;
    h ^= h >> 32;
  }
  return h;
}

uint64_t digest_of(std::string_view bytes) {
  FileDigest d;
  d.add(bytes.data(), bytes.size());
  return d.value();
}

AtomicFile::AtomicFile(const std::string& path)
    : path_(path), temporary_(format("{}.tmp-{}", path, ::getpid())) {
  fd_ = open_for_writing(temporary_, O_TRUNC);
  if (fd_ < 0) fail("write", path_);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty() && !fails_now()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  digest_.add(data, bytes);
  bytes_ += bytes;
  const std::string_view text(static_cast<const char*>(data), bytes);
  if (buffer_.size() + bytes > kBufferBytes) flush();
  if (bytes >= kBufferBytes) {
    write_all(fd_, text, path_);
  } else {
    buffer_.append(text);
  }
}

void AtomicFile::flush() {
  write_all(fd_, buffer_, path_);
  buffer_.clear();
}

void AtomicFile::commit() {
  BRAID_CHECK(fd_ >= 0);
  flush();
  if (!sync_fd(fd_)) fail("write", path_);
  const int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail("write", path_);
  if (fails_now() || ::rename(temporary_.c_str(), path_.c_str()) != 0) fail("write", path_);
  temporary_.clear();
  sync_folder(parent_path(path_));
}

void write_file(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

namespace {

// Why no file can be made at a path where none is, "" when it can.
std::string why_not_made(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return std::strerror(errno);
  ::close(fd);
  ::unlink(path.c_str());
  return "";
}

}  // namespace

std::string why_no_file(const std::string& path) {
  const std::string parent = parent_path(path);
  if (is_folder(path)) return "it is a folder";
  if (path.ends_with('/')) return "it names a folder, not a file";
  if (!path_exists(parent)) return format("there is no folder {}", parent);
  if (!is_folder(parent)) return format("{} is not a folder", parent);
  struct stat s;
  if (::stat(path.c_str(), &s) == 0 && !S_ISREG(s.st_mode)) return "it is not a regular file";
  return why_not_made(format("{}.tmp-{}", path, ::getpid()));
}

std::string why_no_files_in(const std::string& folder) {
  if (!path_exists(folder)) return why_no_files_in(parent_path(folder));
  if (!is_folder(folder)) return format("the file {} is in the way", folder);
  return why_not_made(join_path(folder, format(".braid.tmp-{}", ::getpid())));
}

AppendFile::AppendFile(const std::string& path, uint64_t keep_bytes) : path_(path) {
  fd_ = open_for_writing(path, 0);
  if (fd_ < 0) fail("write", path);
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  const uint64_t keep =
      std::min<uint64_t>(keep_bytes, static_cast<uint64_t>(std::max<off_t>(end, 0)));
  if (end < 0 || fails_now() || ::ftruncate(fd_, static_cast<off_t>(keep)) != 0 ||
      ::lseek(fd_, 0, SEEK_END) < 0) {
    const int error = errno;
    ::close(fd_);
    errno = error;
    fail("write", path);
  }
}

AppendFile::~AppendFile() { ::close(fd_); }

void AppendFile::write(std::string_view text) { write_all(fd_, text, path_); }

FolderLock::FolderLock(const std::string& path)
    : fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) fail("open", path);
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(fd_);
  if (error == EWOULDBLOCK)
    throw Error(ErrorKind::kUsage, format("another braid works in {}; wait for it", path));
  // Not every file system has locks; without one two commands are the user's to keep apart.
  fd_ = -1;
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

bool path_exists(const std::string& path) {
  struct stat s;
  return ::lstat(path.c_str(), &s) == 0;
}

bool is_folder(const std::string& path) {
  struct stat s;
  return ::stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

std::optional<FileInfo> file_info(const std::string& path) {
  struct stat s;
  if (::stat(path.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return std::nullopt;
  return FileInfo{static_cast<uint64_t>(s.st_size),
                  int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec};
}

std::optional<uint64_t> file_size(const std::string& path) {
  const std::optional<FileInfo> info = file_info(path);
  return info ? std::optional(info->bytes) : std::nullopt;
}

std::vector<std::string> list_folder(const std::string& path) {
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) fail("read folder", path);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> list_files_below(const std::string& path) {
  std::vector<std::string> out;
  collect_files(path, out);
  return out;
}

void make_folders(const std::string& path) {
  if (path.empty() || is_folder(path)) return;
  const std::string parent = parent_path(path);
  if (parent != path) make_folders(parent);
  if ((fails_now() || ::mkdir(path.c_str(), 0755) != 0) && !(errno == EEXIST && is_folder(path))) {
    if (errno == EEXIST) {
      throw Error(ErrorKind::kBadInput,
                  format("cannot make folder {}: a file of that name is in the way", path));
    }
    fail("make folder", path);
  }
}

void rename_path(const std::string& from, const std::string& to) {
  if (fails_now() || ::rename(from.c_str(), to.c_str()) != 0) {
    fail("rename", format("{} to {}", from, to));
  }
  sync_folder(parent_path(to));
}

void replace_folder(const std::string& from, const std::string& to) {
  if (!path_exists(to)) return rename_path(from, to);
  // The two trade places, so that `to` is whole at every instant.
  if (fails_now() ||
      ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) fail("rename", format("{} to {}", from, to));
    // A file system that cannot: for an instant the old one has another name.
    const std::string aside = to + ".old";
    remove_folder(aside);
    rename_path(to, aside);
    rename_path(from, to);
    return remove_folder(aside);
  }
  sync_folder(parent_path(to));
  remove_folder(from);
}

void remove_file(const std::string& path) {
  if ((fails_now() || ::unlink(path.c_str()) != 0) && errno != ENOENT) fail("remove", path);
}

void remove_folder(const std::string& path) {
  struct stat s;
  if (::lstat(path.c_str(), &s) != 0) return;
  for (const std::string& name : list_folder(path)) {
    const std::string child = join_path(path, name);
    if (::lstat(child.c_str(), &s) == 0 && S_ISDIR(s.st_mode)) {
      remove_folder(child);
    } else {
      remove_file(child);
    }
  }
  if (fails_now() || ::rmdir(path.c_str()) != 0) fail("remove", path);
}

void make_link(const std::string& target, const std::string& path) {
  const std::string temporary = format("{}.tmp-{}", path, ::getpid());
  remove_file(temporary);
  if (fails_now() || ::symlink(target.c_str(), temporary.c_str()) != 0) fail("make link", path);
  rename_path(temporary, path);
}

std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty() || folder == ".") return std::string(name);
  if (!name.empty() && name.front() == '/') return std::string(name);
  return format("{}{}{}", folder, folder.back() == '/' ? "" : "/", name);
}

std::string absolute_path(const std::string& path) {
  if (path.empty() || path.front() == '/') return path;
  char folder[4096];
  if (::getcwd(folder, sizeof folder) == nullptr) fail("find the folder of", path);
  return join_path(folder, path);
}

std::string parent_path(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

std::string file_name(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

}  // namespace braid

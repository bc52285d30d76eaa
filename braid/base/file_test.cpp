#include "braid/base/file.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

#include "braid/base/error.h"
#include "braid/base/file_faults.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

TEST_CASE("read, map, list and remove") {
  const ScratchFolder dir("file");
  make_folders(dir / "a/b");
  write_file(dir / "a/b/x", "hello");
  write_file(dir / "a/y", "");
  CHECK(read_file(dir / "a/b/x") == "hello");
  CHECK(MappedFile::open(dir / "a/b/x")->text() == "hello");
  CHECK(MappedFile::open(dir / "a/y")->size() == 0);
  CHECK(list_folder(dir / "a") == std::vector<std::string>{"b", "y"});
  CHECK(list_files_below(dir.path()) == std::vector<std::string>{dir / "a/b/x", dir / "a/y"});
  CHECK(file_size(dir / "a/b/x") == 5);
  CHECK_FALSE(file_size(dir / "a").has_value());
  CHECK_THROWS_WITH_AS(read_file(dir / "a/b/x", 4), doctest::Contains("5 bytes, more than the 4"),
                       Error);
  CHECK_THROWS_WITH_AS(read_file(dir / "none"), doctest::Contains("none: No such file"), Error);
  make_link("x", dir / "a/b/link");
  make_link("y", dir / "a/b/link");  // replaces
  remove_folder(dir / "a");
  CHECK_FALSE(path_exists(dir / "a"));
}

TEST_CASE("paths") {
  CHECK(join_path("a", "b") == "a/b");
  CHECK(join_path("a/", "b") == "a/b");
  CHECK(join_path("a", "/b") == "/b");
  CHECK(parent_path("a/b/") == "a");
  CHECK(parent_path("/a") == "/");
  CHECK(parent_path("a") == ".");
  CHECK(file_name("a/b/") == "b");
}

TEST_CASE("any failing operation leaves the old file whole and nothing beside it") {
  const ScratchFolder dir("file");
  const std::string path = dir / "f";
  write_file(path, "old");
  const std::string fresh(3 << 20, 'n');
  FileFaults::arm(FileFaults::Kind::kNone, -1, 0);
  write_file(path, "old");
  const int64_t operations = FileFaults::operations();
  CHECK(operations >= 5);  // open, write, fsync, rename, fsync of the folder
  for (const auto kind :
       {FileFaults::Kind::kFail, FileFaults::Kind::kTear, FileFaults::Kind::kCrash}) {
    for (int64_t n = 0; n < operations; ++n) {
      CAPTURE(n);
      FileFaults::arm(kind, n, ENOSPC);
      CHECK_THROWS_WITH_AS(write_file(path, fresh), doctest::Contains("No space left on device"),
                           Error);
      FileFaults::disarm();
      // After the rename only the folder's own fsync can fail: the new file is there, whole.
      const std::string now = read_file(path);
      CHECK((now == "old" || (n == operations - 1 && now == fresh)));
      if (kind != FileFaults::Kind::kCrash) CHECK(list_folder(dir.path()).size() == 1);
      write_file(path, "old");
    }
  }
}

TEST_CASE("a short write is continued") {
  const ScratchFolder dir("file");
  for (int64_t n = 0; n < 4; ++n) {
    FileFaults::arm(FileFaults::Kind::kShortWrite, n, 0);
    write_file(dir / "f", "0123456789");
    CHECK(read_file(dir / "f") == "0123456789");
  }
}

TEST_CASE("a log is cut and continued") {
  const ScratchFolder dir("file");
  {
    AppendFile log(dir / "log", 0);
    log.write("one\n");
    log.write("two\n");
  }
  AppendFile(dir / "log", 4).write("three\n");
  CHECK(read_file(dir / "log") == "one\nthree\n");
  AppendFile(dir / "log", 1000).write("four\n");
  CHECK(read_file(dir / "log") == "one\nthree\nfour\n");
}

TEST_CASE("the digest sees every byte and not how it was fed") {
  std::string text(1000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  const uint64_t whole = digest_of(text);
  FileDigest pieces;
  for (size_t at = 0, n = 1; at < text.size(); at += n, n = n % 13 + 1) {
    pieces.add(text.data() + at, std::min(n, text.size() - at));
  }
  CHECK(pieces.value() == whole);
  for (size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(text[i] ^ 1);
    CHECK(digest_of(text) != whole);
    text[i] = static_cast<char>(text[i] ^ 1);
    CHECK(digest_of(std::string_view(text).substr(0, i)) != whole);
  }
}

}  // namespace
TEST_CASE("a folder is one process's at a time") {
  const ScratchFolder folder("lock");
  {
    const FolderLock mine(folder.path());
    CHECK_THROWS_WITH_AS(FolderLock(folder.path()),
                         doctest::Contains((folder.path() + "; wait for it").c_str()), Error);
  }
  CHECK_NOTHROW(FolderLock(folder.path()));
  CHECK_THROWS_AS(FolderLock(folder / "none"), Error);
}

}  // namespace braid

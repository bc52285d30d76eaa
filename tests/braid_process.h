#pragma once
// Runs the braid binary (environment BRAID_BINARY, set by ctest) as a user would: arguments in,
// exit code and both streams out.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"

namespace braid::e2e {

using Args = std::vector<std::string>;

struct Outcome {
  int code = -1;    // the exit code, or -1 when a signal ended it
  int signal = 0;   // which ended it
  std::string out;  // stdout
  std::string err;  // stderr
  std::string all() const { return format("exit {}\nstdout: {}\nstderr: {}", code, out, err); }
};

// A fresh folder that is removed with all it holds.
class Folder {
 public:
  Folder() {
    std::string name = "/tmp/braid-e2e-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { remove_folder(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return join_path(path_, name); }

 private:
  std::string path_;
};

struct Setting {
  Args environment;                       // "NAME=value", over the inherited one without BRAID_*
  std::string stdout_path;                // a file instead of a pipe
  std::string stdin_path;                 // a file to read from
  uint64_t most_file_bytes = UINT64_MAX;  // a write beyond fails, as on a full disk
};

inline std::string binary() {
  const char* path = std::getenv("BRAID_BINARY");
  REQUIRE_MESSAGE(path != nullptr, "BRAID_BINARY is not set");
  return path;
}

// A running braid. Its streams go to unlinked files, so that it never waits for a reader.
class Process {
 public:
  explicit Process(const Args& args, const Setting& setting = {}) {
    out_ = std::tmpfile();
    err_ = std::tmpfile();
    REQUIRE(out_ != nullptr);
    REQUIRE(err_ != nullptr);
    const std::string path = binary();
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) run_child(path, args, setting);
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    std::fclose(out_);
    std::fclose(err_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Nothing once it has ended: kill(-1) would reach every process of the machine.
  void send(int signal) {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  bool running() {
    if (pid_ <= 0) return false;
    if (::waitpid(pid_, &status_, WNOHANG) == 0) return true;
    pid_ = -1;
    return false;
  }
  // Waits for the end; the time is only there so that a hang is a failure.
  Outcome wait(double most_seconds = 300) {
    const double end = now_seconds() + most_seconds;
    while (running()) {
      if (now_seconds() > end) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, &status_, 0);
        pid_ = -1;
        FAIL_CHECK("braid did not end in time");
        break;
      }
      ::usleep(1000);
    }
    Outcome o;
    if (WIFEXITED(status_)) o.code = WEXITSTATUS(status_);
    if (WIFSIGNALED(status_)) o.signal = WTERMSIG(status_);
    o.out = contents(out_);
    o.err = contents(err_);
    return o;
  }

 private:
  [[noreturn]] void run_child(const std::string& path, const Args& args, const Setting& setting) {
    if (setting.most_file_bytes != UINT64_MAX) {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{setting.most_file_bytes, setting.most_file_bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    const int out = setting.stdout_path.empty() ? ::fileno(out_)
                                                : ::open(setting.stdout_path.c_str(), O_WRONLY);
    if (!setting.stdin_path.empty()) {
      ::dup2(::open(setting.stdin_path.c_str(), O_RDONLY), STDIN_FILENO);
    }
    ::dup2(out, STDOUT_FILENO);
    ::dup2(::fileno(err_), STDERR_FILENO);
    Args environment;
    for (char** e = environ; *e != nullptr; ++e) {
      if (!std::string_view(*e).starts_with("BRAID_")) environment.push_back(*e);
    }
    environment.insert(environment.end(), setting.environment.begin(), setting.environment.end());
    std::vector<char*> argv = {const_cast<char*>("braid")}, envp;
    for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
    for (const std::string& e : environment) envp.push_back(const_cast<char*>(e.c_str()));
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    ::execve(path.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }

  static std::string contents(std::FILE* file) {
    std::string text;
    char piece[4096];
    off_t at = 0;
    for (ssize_t n; (n = ::pread(::fileno(file), piece, sizeof piece, at)) > 0; at += n) {
      text.append(piece, static_cast<size_t>(n));
    }
    return text;
  }

  std::FILE* out_ = nullptr;
  std::FILE* err_ = nullptr;
  pid_t pid_ = -1;
  int status_ = 0;
};

inline Outcome braid(const Args& args, const Setting& setting = {}) {
  return Process(args, setting).wait();
}

inline Args operator+(Args a, const Args& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> all;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    all.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return all;
}

// English-like text of at least that many bytes.
inline std::string some_text(size_t bytes) {
  std::string text;
  for (int i = 0; text.size() < bytes; ++i) {
    text += format("The quick brown fox number {} jumps over {} lazy dogs and rests.\n", i * 7 % 31,
                   i * i % 17);
  }
  return text;
}

}  // namespace braid::e2e

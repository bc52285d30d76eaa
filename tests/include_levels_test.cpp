// The include table of the layout (docs/map.md): includes point downwards, third-party headers have
// one home each, and braid's own headers stay cheap. Every violation is reported with file and
// line.

#include <doctest/doctest.h>
#include <fnmatch.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

using Names = std::vector<std::string>;

// Folder of braid/ -> folders it may include besides itself.
const std::map<std::string, Names>& folder_table() {
  static const std::map<std::string, Names> table = [] {
    std::map<std::string, Names> t;
    const auto with = [&](const std::string& folder, Names more) {
      more.insert(more.end(), t.at(folder).begin(), t.at(folder).end());
      more.push_back(folder);
      return more;
    };
    t["base"] = {};
    t["core"] = {"base"};
    t["text"] = {"base"};
    t["report"] = {"base"};
    t["formats"] = {"base", "core"};
    t["kernels"] = {"base", "core"};
    t["ops"] = {"base", "core", "kernels"};
    t["state"] = {"base", "core", "kernels", "formats"};
    t["layers"] = {"base", "core", "ops", "state"};
    t["stack"] = with("layers", {"formats"});
    t["importers"] = with("stack", {"text"});
    t["infer"] = with("stack", {"text"});
    t["train"] = with("stack", {"text", "kernels"});
    t["testing"] = with("infer", {"importers", "kernels"});
    t["bench"] = with("train", {"infer", "report"});
    t["eval"] = with("infer", {"importers"});
    t["serve"] = with("infer", {"importers"});
    t["search"] = with("eval", {"train"});
    t["compare"] = with("bench", {});
    t["cli"] = with("compare", {"importers", "eval", "serve", "search"});
    return t;
  }();
  return table;
}

// Header (as written between <>) -> files that may include it.
const std::vector<std::pair<const char*, Names>> kHomes = {
    {"hwy/*", {"braid/*_kernel.cpp", "braid/kernels/simd/*_inl.h"}},
    {"dnnl*", {"braid/kernels/gemm/*.cpp"}},
    {"oneapi/*", {"braid/kernels/gemm/*.cpp"}},
    {"libxsmm*", {"braid/kernels/gemm/*.cpp"}},
    // f16 of single numbers; vectors beside matrix tiles
    {"immintrin.h", {"braid/kernels/quant/pack.cpp", "braid/kernels/*_amx.cpp"}},
    {"cpuid.h", {"braid/kernels/simd/amx.cpp"}},
    {"omp.h", {"braid/core/parallel.cpp"}},
    {"nlohmann/*", {"braid/base/json.cpp"}},
    {"toml++/*", {"braid/stack/settings.cpp"}},
    {"fmt/*", {"braid/base/format.h", "braid/*.cpp"}},
    {"CLI/*", {"braid/cli/*"}},
    {"z*.h", {"braid/train/*.cpp", "braid/report/*.cpp"}},
    {"lzma.h", {"braid/report/*.cpp"}},
    {"pcre2*", {"braid/text/tokenizer/regex.cpp"}},
    {"utf8proc*", {"braid/text/tokenizer/unicode.cpp", "braid/text/jinja/unicode.cpp"}},
    {"doctest/*", {"braid/*_test.cpp", "braid/testing/*"}},
    // The system's own headers stay out of braid's headers.
    {"dirent.h", {"braid/*.cpp"}},
    {"fcntl.h", {"braid/*.cpp"}},
    {"sched.h", {"braid/*.cpp"}},
    {"signal.h", {"braid/*.cpp"}},
    {"sys/*", {"braid/*.cpp"}},
    {"termios.h", {"braid/*.cpp"}},
    {"unistd.h", {"braid/*.cpp"}},
};

// 0.4 to 0.9 s of compile time each, paid by every file that includes the header.
const Names kDearHeaders = {"iostream", "regex",  "filesystem", "thread",
                            "chrono",   "random", "ranges"};

bool matches(const std::string& name, const std::string& pattern) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

bool any_matches(const std::string& name, const Names& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& p) { return matches(name, p); });
}

Names parts_of(const std::string& path) {
  Names parts(1);
  for (const char c : path) {
    if (c == '/') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool is_test(const std::string& path) { return any_matches(path, {"*_test.cpp", "*_fuzz.cpp"}); }

std::string check_folder(const std::string& path, const std::string& target) {
  const std::string from = parts_of(path)[1];
  const std::string to = parts_of(target)[1];
  const auto& table = folder_table();
  const auto allowed = table.find(from);
  if (allowed == table.end()) return format("folder braid/{} is not in the table", from);
  if (table.find(to) == table.end()) return format("folder braid/{} is not in the table", to);
  const auto has = [&](const Names& names) {
    return std::find(names.begin(), names.end(), to) != names.end();
  };
  if (from == to || has(allowed->second)) return "";
  // Tests may use the batteries and what those stand on.
  if (is_test(path) && (to == "testing" || has(table.at("testing")))) return "";
  // A kernel that only one layer uses lives with the layer.
  if (from == "layers" && to == "kernels" && matches(path, "*_kernel.cpp")) return "";
  // A layer's definition builds on the kernels' definitions.
  if (from == "layers" && matches(path, "*_ref.h") && matches(target, "braid/kernels/*_ref.h"))
    return "";
  return format("braid/{} may not include braid/{}", from, to);
}

// What the table says in words: kernels and layers know nothing of their neighbours.
std::string check_neighbours(const std::string& path, const std::string& target) {
  const Names from = parts_of(path);
  const Names to = parts_of(target);
  if (from[1] == "kernels" && to[1] == "core" &&
      !any_matches(target, {"braid/core/dtype.h", "braid/core/bf16.h", "braid/core/dims.h"})) {
    return "kernels take pointers and sizes: of braid/core only dtype.h, bf16.h and dims.h";
  }
  if (from[1] == "kernels" && to[1] == "kernels" && from[2] != to[2] && to[2] != "simd" &&
      to[2] != "gemm") {
    return "of other kernel families only simd and gemm";
  }
  if (to[1] == "layers" && to.size() == 5) {
    const bool own = from.size() >= 5 && std::equal(to.begin(), to.begin() + 4, from.begin());
    const bool test_of_layers = is_test(path) && from[1] == "layers";
    if (!own && !test_of_layers)
      return "a layer's folder is its own; only its name in list.inc is public";
  }
  if (from[1] == "stack" && to[1] == "layers" && to.size() != 3 && to.back() != "list.inc") {
    return "of layers the stack knows the interfaces and lists only";
  }
  return "";
}

std::string check_own(const std::string& path, const std::string& target) {
  const Names to = parts_of(target);
  if (to.size() < 3 || to[0] != "braid") return "write the path from the root: \"braid/...\"";
  const std::string folder = check_folder(path, target);
  return folder.empty() ? check_neighbours(path, target) : folder;
}

std::string check_foreign(const std::string& path, const std::string& header) {
  if (header.find_first_of("./") == std::string::npos) {
    const bool dear =
        std::find(kDearHeaders.begin(), kDearHeaders.end(), header) != kDearHeaders.end();
    return dear && !matches(path, "*.cpp") ? "too dear for a header; include it in the .cpp" : "";
  }
  for (const auto& [pattern, homes] : kHomes) {
    if (!matches(header, pattern)) continue;
    if (any_matches(path, homes)) return "";
    std::string list;
    for (const std::string& home : homes) list += (list.empty() ? "" : ", ") + home;
    return "has its home in " + list;
  }
  return "no home in the table of third-party headers";
}

// "path:line: #include ...: why", one for each violation in the text of `path`.
Names violations(const std::string& path, std::string_view text) {
  Names out;
  int number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.substr(0, 1) != "#") continue;
    line.remove_prefix(std::min(line.find_first_not_of(" \t", 1), line.size()));
    if (line.substr(0, 7) != "include") continue;
    const size_t open = line.find_first_of("<\"");
    if (open == line.npos) continue;  // a macro, as in Highway's foreach_target
    const bool own = line[open] == '"';
    const size_t close = line.find(own ? '"' : '>', open + 1);
    const std::string target(line.substr(open + 1, close - open - 1));
    const std::string why = own ? check_own(path, target) : check_foreign(path, target);
    if (!why.empty()) out.push_back(format("{}:{}: #{}: {}", path, number, line, why));
  }
  return out;
}

TEST_CASE("includes: every source of braid keeps to the table") {
  const Names files = list_files_below("braid");
  REQUIRE_MESSAGE(files.size() > 50, "run from the root of the repository");
  int64_t seen = 0;
  for (const std::string& path : files) {
    if (!any_matches(path, {"*.h", "*.cpp", "*.inc", "*.cu"})) continue;
    ++seen;
    for (const std::string& violation : violations(path, read_file(path))) {
      FAIL_CHECK(violation);
    }
  }
  CHECK(seen > 50);
}

struct Case {
  const char* path;
  const char* line;
  const char* message;  // part of it; "" = allowed
};

TEST_CASE("includes: the table itself") {
  const Case cases[] = {
      {"braid/ops/norm.cpp", "#include \"braid/core/tensor.h\"", ""},
      {"braid/core/tensor.h", "#include \"braid/ops/norm.h\"",
       "braid/core may not include braid/ops"},
      {"braid/base/a.cpp", "#include \"braid/core/dtype.h\"", "braid/base may not include"},
      {"braid/base/a.cpp", "  #  include \"braid/core/dtype.h\"", "braid/base/a.cpp:1: #include"},
      {"braid/infer/a.cpp", "#include \"braid/train/b.h\"",
       "braid/infer may not include braid/train"},
      {"braid/train/a.cpp", "#include \"braid/infer/b.h\"",
       "braid/train may not include braid/infer"},
      {"braid/bench/a.cpp", "#include \"braid/infer/b.h\"", ""},
      {"braid/cli/a.cpp", "#include \"braid/bench/b.h\"", ""},
      {"braid/ops/a_test.cpp", "#include \"braid/testing/golden.h\"", ""},
      {"braid/ops/a.cpp", "#include \"braid/testing/golden.h\"",
       "braid/ops may not include braid/testing"},
      {"braid/ops/a_test.cpp", "#include \"braid/cli/b.h\"", "may not include braid/cli"},
      {"braid/other/a.cpp", "#include \"braid/base/b.h\"", "braid/other is not in the table"},
      {"braid/ops/a.cpp", "#include \"norm.h\"", "write the path from the root"},
      {"braid/kernels/norm/a.h", "#include \"braid/core/tensor.h\"", "kernels take pointers"},
      {"braid/kernels/norm/a.h", "#include \"braid/core/dtype.h\"", ""},
      {"braid/kernels/norm/a.cpp", "#include \"braid/kernels/conv/b.h\"", "only simd and gemm"},
      {"braid/kernels/norm/a.cpp", "#include \"braid/kernels/gemm/b.h\"", ""},
      {"braid/layers/mixers/kda/a.cpp", "#include \"braid/layers/mixers/kda/b.h\"", ""},
      {"braid/layers/mixers/kda/a.cpp", "#include \"braid/layers/mixers/heads.h\"", ""},
      {"braid/layers/mixers/kda/a.cpp", "#include \"braid/layers/mixers/gqa/b.h\"", "its own"},
      {"braid/layers/mixers/heads.cpp", "#include \"braid/layers/mixers/gqa/b.h\"", "its own"},
      {"braid/layers/mixers/kda/a.cpp", "#include \"braid/kernels/norm/b.h\"", "may not include"},
      {"braid/layers/mixers/kda/a_kernel.cpp", "#include \"braid/kernels/simd/b.h\"", ""},
      {"braid/layers/mixers/kda/a_ref.h", "#include \"braid/kernels/delta/b_ref.h\"", ""},
      {"braid/layers/mixers/kda/a_ref.h", "#include \"braid/kernels/delta/b.h\"",
       "may not include"},
      {"braid/stack/a.cpp", "#include \"braid/layers/mixer.h\"", ""},
      {"braid/stack/a.cpp", "#include \"braid/layers/mixers/heads.h\"",
       "interfaces and lists only"},
      {"braid/stack/a.cpp", "#include \"braid/layers/mixers/kda/b.h\"", "its own"},
      {"braid/ops/a.h", "#include <vector>", ""},
      {"braid/ops/a.h", "#include <thread>", "too dear for a header"},
      {"braid/ops/a_inl.h", "#include <random>", "too dear for a header"},
      {"braid/ops/a.cpp", "#include <thread>", ""},
      {"braid/ops/a.cpp", "#include <hwy/highway.h>", "has its home in braid/*_kernel.cpp"},
      {"braid/kernels/norm/norm_kernel.cpp", "#include <hwy/highway.h>", ""},
      {"braid/ops/a.cpp", "#include <dnnl.hpp>", "has its home in braid/kernels/gemm"},
      {"braid/ops/a_test.cpp", "#include <nlohmann/json.hpp>",
       "has its home in braid/base/json.cpp"},
      {"braid/core/a.h", "#include <unistd.h>", "has its home in braid/*.cpp"},
      {"braid/core/a.cpp", "#include <omp.h>", "has its home in braid/core/parallel.cpp"},
      {"braid/core/a.cpp", "#include <boost/any.hpp>", "no home in the table"},
      {"braid/core/a.cpp", "// #include <boost/any.hpp>", ""},
      {"braid/core/a.cpp", "#define HWY_TARGET_INCLUDE \"x.cpp\"", ""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.path);
    CAPTURE(c.line);
    const Names found = violations(c.path, c.line);
    if (*c.message == 0) {
      CHECK(found.empty());
    } else {
      REQUIRE(found.size() == 1);
      CHECK_MESSAGE(found[0].find(c.message) != std::string::npos, found[0]);
    }
  }
  CHECK(
      violations("braid/base/a.h", "#pragma once\n#include <regex>\n\n#include <omp.h>\n").size() ==
      2);
}

// Merges that keep both sides have left a line in two versions more than once.
TEST_CASE("the map names each folder once") {
  const std::string map = read_file("docs/map.md");
  std::map<std::string_view, int> named;
  for (const std::string_view line : split(map, '\n')) {
    const size_t begin = line.find_first_not_of(' '), end = line.find("/  ");
    if (begin <= 2 && end != line.npos) ++named[line.substr(0, end)];
  }
  CHECK(named.contains("  layers"));
  for (const auto& [folder, times] : named) CHECK_MESSAGE(times == 1, folder);
}

}  // namespace
}  // namespace braid

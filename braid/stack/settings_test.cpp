#include "braid/stack/settings.h"

#include <doctest/doctest.h>

#include <cmath>

#include "braid/base/error.h"

namespace braid {
namespace {

std::string error_of(std::string_view toml, ErrorKind kind = ErrorKind::kUsage) {
  try {
    parse_settings(toml);
  } catch (const Error& e) {
    CHECK(e.kind() == kind);
    return e.what();
  }
  return "no error";
}

std::string resolve_error(const ModelSettings& settings) {
  try {
    resolved(settings);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

ModelSettings sized(int64_t width, int64_t heads, int64_t head_dim) {
  ModelSettings s;
  s.stack = parse_stack("gqa");
  s.width = width;
  s.heads = heads;
  s.head_dim = head_dim;
  return s;
}

TEST_CASE("settings: everything that is written is read back") {
  ModelSettings s = sized(192, 3, 64);
  s.stack = {};
  s.vocab = 50257;
  s.tie_embeddings = false;
  s.norm = NormKind::kRms1p;
  s.norm_eps = 1e-5;
  s.residual = parse_named("attnres{block_sublayers=4}", "residual");
  s.init = parse_named("normal{std=0.01}", "init");
  s.seed = INT64_MAX;
  const std::string text = print_settings(s);
  CHECK(text ==
        "width = 192\nheads = 3\nhead_dim = 64\nvocab = 50257\ntie_embeddings = false\n"
        "norm = \"rms_norm_1p\"\nnorm_eps = 1e-05\nresidual = \"attnres{block_sublayers=4}\"\n"
        "init = \"normal{std=0.01}\"\nseed = 9223372036854775807\n");
  CHECK(parse_settings(text) == s);
  CHECK(print_settings(parse_settings(text)) == text);
  CHECK(parse_settings(print_settings({})) == ModelSettings{});
}

TEST_CASE("settings: what only some models have is printed where it is set") {
  ModelSettings s = sized(64, 4, 0);
  s.stack = {};
  s.norm = NormKind::kLayer;
  s.norm_placement = NormPlacement::kSandwich;
  s.residual = parse_named("normed{alpha=3.5:2,beta=1}", "residual");
  s.embedding_scale = 45.254833995939045;
  s.embedding_norm = true;
  s.positions = 1024;
  s.meta_tokens = 16;
  s.logit_scale = 0.0625;
  s.logit_softcap = 30;
  s.max_position_embeddings = 1024;
  const std::string text = print_settings(s);
  CHECK(text ==
        "width = 64\nheads = 4\nvocab = 256\ntie_embeddings = true\nnorm = \"layer_norm\"\n"
        "norm_placement = \"sandwich\"\nnorm_eps = 1e-06\n"
        "residual = \"normed{alpha=3.5:2,beta=1}\"\nembedding_scale = 45.254833995939045\n"
        "embedding_norm = true\npositions = 1024\nmeta_tokens = 16\nlogit_scale = "
        "0.0625\nlogit_softcap = 30\n"
        "max_position_embeddings = 1024\ninit = \"normal\"\nseed = 0\n");
  CHECK(parse_settings(text) == s);
}

TEST_CASE("settings: scales and positions that make no sense") {
  const auto error = [](auto change) {
    ModelSettings s = sized(64, 4, 0);
    change(s);
    return resolve_error(s);
  };
  CHECK(error([](ModelSettings& s) { s.embedding_scale = 0; }) == "embedding_scale 0; above 0");
  CHECK(error([](ModelSettings& s) { s.logit_scale = -2; }) == "logit_scale -2; above 0");
  CHECK(error([](ModelSettings& s) { s.logit_softcap = -1; }) ==
        "logit_softcap -1; above 0, or 0 for none");
  CHECK(error([](ModelSettings& s) { s.logit_softcap = HUGE_VAL; }) ==
        "logit_softcap inf; above 0, or 0 for none");
  CHECK(error([](ModelSettings& s) { s.positions = -1; }) == "positions -1; 0 (none) or more");
  CHECK(error([](ModelSettings& s) { s.meta_tokens = 65537; }) ==
        "meta_tokens 65537; 0 (none) to 65536");
  CHECK(error([](ModelSettings& s) { s.meta_tokens = s.positions = 8; }) ==
        "meta_tokens and learned positions do not go together");
  CHECK(error([](ModelSettings& s) {
          s.positions = 8;
          s.max_position_embeddings = 9;
        }) == "max_position_embeddings 9 is more than the 8 learned positions");
}

TEST_CASE("settings: the words of Hugging Face configs") {
  const ModelSettings s = parse_settings(
      "hidden_size = 128\nnum_attention_heads = 4\nvocab_size = 1000\n"
      "tie_word_embeddings = false\nrms_norm_eps = 1e-5\n");
  CHECK(s.width == 128);
  CHECK(s.heads == 4);
  CHECK(s.vocab == 1000);
  CHECK(!s.tie_embeddings);
  CHECK(s.norm_eps == 1e-5);
  CHECK(parse_settings("layer_norm_epsilon = 1e-5").norm_eps == 1e-5);
  CHECK(parse_settings("layer_norm_eps = 1e-3").norm_eps == 1e-3);
  CHECK(error_of("width = 128\nhidden_size = 128\n").find("set the same; keep one") !=
        std::string::npos);
}

TEST_CASE("settings: bad keys and values") {
  const std::pair<const char*, const char*> cases[] = {
      {"\nwidht = 3", "model.toml:2: unknown key 'widht'; did you mean 'width'?"},
      {"hiden_size = 3", "model.toml:1: unknown key 'hiden_size'; did you mean 'hidden_size'?"},
      {"dropout = 0.1",
       "model.toml:1: unknown key 'dropout'; known: stack, width, heads, head_dim, vocab, "
       "tie_embeddings, norm, norm_placement, norm_eps, residual, embedding_scale, "
       "embedding_norm, positions, meta_tokens, logit_scale, logit_softcap, "
       "max_position_embeddings, init, "
       "seed"},
      {"vocab = 3\n [width]\na = 1", "model.toml:2: width must be a whole number, not a table"},
      {"width.a = 1", "model.toml:1: width must be a whole number, not a table"},
      {"width = 1.5", "model.toml:1: width must be a whole number, not 1.5"},
      {"width = \"192\"", "model.toml:1: width must be a whole number, not the text \"192\""},
      {"width = 0", "model.toml:1: width = 0 is not in 1 .. 1048576"},
      {"hidden_size = -4", "model.toml:1: hidden_size = -4 is not in 1 .. 1048576"},
      {"vocab = 1", "model.toml:1: vocab = 1 is not in 2 .. 2147483648"},
      {"seed = -1", "model.toml:1: seed = -1 is not in 0 .. 9223372036854775807"},
      {"heads = [1]", "model.toml:1: heads must be a whole number, not an array"},
      {"heads = 2020-01-01", "model.toml:1: heads must be a whole number, not a date or time"},
      {"tie_embeddings = 1", "model.toml:1: tie_embeddings must be true or false, not 1"},
      {"norm_eps = 0", "model.toml:1: norm_eps = 0 is not between 0 and 1"},
      {"norm_eps = nan", "model.toml:1: norm_eps = nan is not between 0 and 1"},
      {"norm_eps = true", "model.toml:1: norm_eps must be a number, not true"},
      {"norm = \"batch_norm\"",
       "model.toml:1: norm = \"batch_norm\" is none of \"rms_norm\", \"rms_norm_1p\", "
       "\"layer_norm\""},
      {"norm_placement = \"before\"",
       "model.toml:1: norm_placement = \"before\" is none of \"pre\", \"post\", \"sandwich\""},
      {"norm_placement = true", "model.toml:1: norm_placement must be a text in quotes, not true"},
      {"embedding_scale = 0", "model.toml:1: embedding_scale = 0 is not above 0"},
      {"embedding_norm = 1", "model.toml:1: embedding_norm must be true or false, not 1"},
      {"embedding_scale = inf", "model.toml:1: embedding_scale = inf is not above 0"},
      {"logit_scale = -1", "model.toml:1: logit_scale = -1 is not above 0"},
      {"logit_softcap = nan", "model.toml:1: logit_softcap = nan is not 0 or above"},
      {"logit_softcap = \"30\"",
       "model.toml:1: logit_softcap must be a number, not the text \"30\""},
      {"positions = -1", "model.toml:1: positions = -1 is not in 0 .. 2147483648"},
      {"max_position_embeddings = 1.0",
       "model.toml:1: max_position_embeddings must be a whole number, not 1"},
      {"residual = 3", "model.toml:1: residual must be a text in quotes, not 3"},
      {"residual = \"prenorm, attnres\"",
       "model.toml:1: residual = \"prenorm, attnres\" is not one NAME or NAME{key=value}"},
      {"residual = \"2 x prenorm\"",
       "model.toml:1: residual = \"2 x prenorm\" is not one NAME or NAME{key=value}"},
  };
  for (const auto& [toml, message] : cases) {
    CAPTURE(toml);
    CHECK(error_of(toml) == message);
  }
  CHECK(error_of("\n\nstack = \"2 x\"").find("model.toml:3: stack 1:4: a layer or '(' expected") ==
        0);
}

TEST_CASE("settings: what is no TOML") {
  for (const char* toml :
       {"width", "width = ", "= 3", "width = 3\nwidth = 4", "stack = \"gqa", "\xFF\xFE\x01",
        "width = 99999999999999999999", "{\"width\": 3}", "[/", "a = [2,}", "\n["}) {
    CAPTURE(toml);
    const std::string message = error_of(toml, ErrorKind::kBadInput);
    CHECK(message.find("model.toml:") == 0);
    CHECK(message.find("not TOML: ") != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
  CHECK(error_of(std::string(2 << 20, '\n'), ErrorKind::kBadInput) ==
        "model.toml: 2097152 bytes, the limit is 1114112");
}

TEST_CASE("settings: characters beyond ASCII") {
  CHECK(parse_settings("\xEF\xBB\xBFwidth = 3 # \xE4\xBD\xA0\n").width == 3);
  CHECK(error_of("\xC8\xA1", ErrorKind::kBadInput).find("not TOML") != std::string::npos);
  CHECK(error_of("\"\xC8\xA1\" = 1").find("unknown key '?'") != std::string::npos);
  CHECK(error_of("norm = \"rms\xC3\xA9\"").find("norm = \"rms?\" is none of") != std::string::npos);
}

TEST_CASE("settings: heads and their size from each other") {
  const auto check = [](const ModelSettings& s, int64_t heads, int64_t head_dim) {
    CHECK(resolved(s).heads == heads);
    CHECK(resolved(s).head_dim == head_dim);
  };
  check(sized(192, 0, 0), 3, 64);
  check(sized(96, 0, 0), 3, 32);
  check(sized(48, 0, 0), 3, 16);
  check(sized(192, 4, 0), 4, 48);
  check(sized(192, 0, 96), 2, 96);
  check(sized(100, 3, 7), 3, 7);
  CHECK(resolve_error(sized(192, 5, 0)) ==
        "5 heads do not divide width 192; change one, or set head_dim");
  CHECK(resolve_error(sized(192, 0, 100)) ==
        "head_dim 100 does not divide width 192; change one, or set heads");
  CHECK(resolve_error(sized(100, 0, 0)) ==
        "width 100 is not a multiple of 16, so heads have no default size; set heads or head_dim, "
        "or a width of 112");
  CHECK(resolve_error(sized(0, 0, 0)) == "width is not set; for example width = 192");
  CHECK(resolve_error({}) == "stack is not set; for example 4 x (kda, swiglu)");
}

TEST_CASE("settings: init schemes") {
  ModelSettings s = sized(100, 1, 0);
  const auto with = [&](const char* init) {
    s.init = parse_named(init, "init");
    return init_std(s, 16);
  };
  CHECK(with("normal").weight == 0.02);
  CHECK(with("normal{std=0.04}").output == doctest::Approx(0.01));
  CHECK(with("normal{std=0.04}").embedding == 0.04);
  CHECK(with("small").weight == doctest::Approx(std::sqrt(0.004)));
  CHECK(with("small").output == doctest::Approx(0.025));
  CHECK(with("fan_in").weight == doctest::Approx(0.1));
  CHECK(with("fan_in").output == doctest::Approx(0.025));
  CHECK(with("fan_in{embed=1}").embedding == 1.0);
  const auto error = [&](const char* init) {
    s.init = parse_named(init, "init");
    return resolve_error(s);
  };
  CHECK(error("nromal") == "unknown init 'nromal'; did you mean 'normal'?");
  CHECK(error("normal{sdt=1}") ==
        "init normal at column 8: unknown option 'sdt'; did you mean 'std'?");
  CHECK(error("normal{std=0}") == "init std = 0; above 0");
  CHECK(error("small{std=1}") ==
        "init small at column 7: unknown option 'std'; init small takes no options");
}

}  // namespace
}  // namespace braid

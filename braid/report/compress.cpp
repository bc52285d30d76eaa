#include "braid/report/compress.h"

#include <lzma.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

double per_byte(uint64_t compressed, std::string_view text) {
  return static_cast<double>(compressed) * 8 / static_cast<double>(text.size());
}

[[noreturn]] void fail(const char* library, int status, std::string_view text) {
  throw Error(ErrorKind::kInternal,
              format("{} could not compress {} bytes (status {})", library, text.size(), status));
}

}  // namespace

double gzip9_bits_per_byte(std::string_view text) {
  BRAID_CHECK(!text.empty());
  z_stream z = {};
  constexpr int kGzipWrapper = 16;
  int status = deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + kGzipWrapper, 8, Z_DEFAULT_STRATEGY);
  if (status != Z_OK) fail("zlib", status, text);
  std::vector<Bytef> out(kPiece);
  size_t taken = 0;
  uint64_t written = 0;
  do {
    const size_t piece = std::min(kPiece, text.size() - taken);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data() + taken));
    z.avail_in = static_cast<uInt>(piece);
    taken += piece;
    const int flush = taken == text.size() ? Z_FINISH : Z_NO_FLUSH;
    do {
      z.next_out = out.data();
      z.avail_out = static_cast<uInt>(out.size());
      status = deflate(&z, flush);
      written += out.size() - z.avail_out;
    } while (z.avail_out == 0);
  } while (status == Z_OK && taken < text.size());
  deflateEnd(&z);
  if (status != Z_STREAM_END) fail("zlib", status, text);
  return per_byte(written, text);
}

double xz9_bits_per_byte(std::string_view text) {
  BRAID_CHECK(!text.empty());
  lzma_stream x = LZMA_STREAM_INIT;
  lzma_ret status = lzma_easy_encoder(&x, 9, LZMA_CHECK_CRC64);
  if (status != LZMA_OK) fail("liblzma", status, text);
  std::vector<uint8_t> out(kPiece);
  uint64_t written = 0;
  x.next_in = reinterpret_cast<const uint8_t*>(text.data());
  x.avail_in = text.size();
  while (status == LZMA_OK) {
    x.next_out = out.data();
    x.avail_out = out.size();
    status = lzma_code(&x, LZMA_FINISH);
    written += out.size() - x.avail_out;
  }
  lzma_end(&x);
  if (status != LZMA_STREAM_END) fail("liblzma", status, text);
  return per_byte(written, text);
}

}  // namespace braid

#pragma once
// The seam through which tests break the disk. Operations that change files (open for writing,
// write, fsync, rename, mkdir, truncate, unlink, symlink) are counted from 0 since the last arm();
// nothing fails unless armed.

#include <cstdint>

namespace braid {

struct FileFaults {
  enum class Kind {
    kNone,        // count only
    kFail,        // operation `nth` fails with `error` and does nothing
    kTear,        // as kFail, but a write first puts half of its bytes on the disk
    kShortWrite,  // a write puts half of its bytes and says so: not an error, the rest must follow
    kCrash,       // operation `nth` and all later ones fail: what a killed process leaves behind
  };
  static void arm(Kind kind, int64_t nth, int error);
  static void disarm();
  static int64_t operations();  // counted since arm()
};

}  // namespace braid

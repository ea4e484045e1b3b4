#include "cpu/pool_avg_windows.h"

#include <algorithm>

namespace torchconv {
namespace cpu {
namespace {

WindowSum forward_shape(const PoolProblem& p) {
  WindowSum w;
  w.batch = p.batch;
  w.channels = p.channels;
  w.src_n = p.x_stride_n;
  w.src_c = p.x_stride_c;
  w.dst_n = p.y_stride_n;
  w.dst_c = p.y_stride_c;
  int64_t outputs = 0;
  for (int d = 0; d < 3; ++d) {
    w.src[d] = p.in[d];
    w.dst[d] = p.out[d];
    w.src_s[d] = p.x_stride[d];
    w.dst_s[d] = p.y_stride[d];
    outputs += p.out[d];
  }
  w.divisor = 1;
  w.tables.resize(3 * outputs);
  int64_t* t = w.tables.data();
  for (int d = 0; d < 3; ++d) {
    w.begin[d] = t;
    w.end[d] = t + p.out[d];
    w.count[d] = t + 2 * p.out[d];
    t += 3 * p.out[d];
  }
  return w;
}

int64_t* writable(const int64_t* table) {
  return const_cast<int64_t*>(table); // it lies in WindowSum::tables
}

// Counts that are all the same go into the divisor.
void fold_counts(WindowSum& w) {
  for (int d = 0; d < 3; ++d) {
    const int64_t* c = w.count[d];
    if (w.dst[d] > 0 &&
        std::all_of(c, c + w.dst[d], [c](int64_t n) { return n == c[0]; })) {
      w.divisor *= c[0];
      w.count[d] = nullptr;
    }
  }
}

} // namespace

WindowSum average_windows(
    const PoolProblem& p,
    bool count_include_pad,
    int64_t divisor_override) {
  const PoolDivisor divisor{true, count_include_pad, divisor_override};
  WindowSum w = forward_shape(p);
  for (int d = 0; d < 3; ++d) {
    for (int64_t o = 0; o < p.out[d]; ++o) {
      const int64_t start = o * p.stride[d] - p.padding[d];
      const int64_t begin = std::max<int64_t>(start, 0);
      const int64_t end = std::min(start + p.kernel[d], p.in[d]);
      writable(w.begin[d])[o] = begin;
      writable(w.end[d])[o] = std::max(begin, end);
      writable(w.count[d])[o] = pool_count(p, divisor, d, o);
    }
  }
  w.pattern = WindowPattern::slide;
  w.kernel = p.kernel[2];
  w.step = p.stride[2];
  w.pad = p.padding[2];
  if (divisor_override != 0) {
    w.divisor = divisor_override;
    std::fill(w.count, w.count + 3, nullptr);
  } else {
    fold_counts(w);
  }
  return w;
}

WindowSum adaptive_windows(const PoolProblem& p) {
  WindowSum w = forward_shape(p);
  for (int d = 0; d < 3; ++d) {
    for (int64_t o = 0; o < p.out[d]; ++o) {
      const int64_t begin = adaptive_begin(o, p.in[d], p.out[d]);
      const int64_t end = adaptive_end(o, p.in[d], p.out[d]);
      writable(w.begin[d])[o] = begin;
      writable(w.end[d])[o] = end;
      writable(w.count[d])[o] = end - begin;
    }
  }
  const bool even = p.out[2] > 0 && p.in[2] % p.out[2] == 0;
  w.pattern = even ? WindowPattern::slide : WindowPattern::ragged;
  w.kernel = w.step = even ? p.in[2] / p.out[2] : 0;
  w.pad = 0;
  fold_counts(w);
  return w;
}

WindowSum transposed(const WindowSum& f) {
  WindowSum w;
  w.batch = f.batch;
  w.channels = f.channels;
  w.src_n = f.dst_n;
  w.src_c = f.dst_c;
  w.dst_n = f.src_n;
  w.dst_c = f.src_c;
  w.divisor = f.divisor;
  int64_t size = 0;
  for (int d = 0; d < 3; ++d) {
    size += 2 * f.src[d] + (f.count[d] ? f.dst[d] : 0);
  }
  w.tables.resize(size);
  int64_t* t = w.tables.data();
  for (int d = 0; d < 3; ++d) {
    w.src[d] = f.dst[d];
    w.dst[d] = f.src[d];
    w.src_s[d] = f.dst_s[d];
    w.dst_s[d] = f.src_s[d];
    int64_t* begin = t;
    int64_t* end = t + w.dst[d];
    t += 2 * w.dst[d];
    // Windows begin and end in ascending order.
    int64_t b = 0, e = 0;
    for (int64_t i = 0; i < w.dst[d]; ++i) {
      while (b < f.dst[d] && f.end[d][b] <= i) {
        ++b;
      }
      while (e < f.dst[d] && f.begin[d][e] <= i) {
        ++e;
      }
      begin[i] = b;
      end[i] = std::max(b, e);
    }
    w.begin[d] = begin;
    w.end[d] = end;
    w.count[d] = nullptr;
    if (f.count[d]) {
      std::copy(f.count[d], f.count[d] + f.dst[d], t);
      w.count[d] = t;
      t += f.dst[d];
    }
  }
  w.pattern = f.pattern;
  w.kernel = f.kernel;
  w.step = f.step;
  w.pad = f.pad;
  if (f.pattern == WindowPattern::slide) {
    if (f.step == 1) { // a slide again, mirrored
      w.pad = f.kernel - 1 - f.pad;
    } else {
      w.pattern = WindowPattern::spread;
    }
  }
  return w;
}

WindowSum WindowSum::view() const {
  WindowSum w;
  w.batch = batch;
  w.channels = channels;
  w.src_n = src_n;
  w.src_c = src_c;
  w.dst_n = dst_n;
  w.dst_c = dst_c;
  for (int d = 0; d < 3; ++d) {
    w.src[d] = src[d];
    w.dst[d] = dst[d];
    w.src_s[d] = src_s[d];
    w.dst_s[d] = dst_s[d];
    w.begin[d] = begin[d];
    w.end[d] = end[d];
    w.count[d] = count[d];
  }
  w.divisor = divisor;
  w.pattern = pattern;
  w.kernel = kernel;
  w.step = step;
  w.pad = pad;
  w.inner = inner;
  return w;
}

bool join_channels(WindowSum& w) {
  const bool dense = (w.src[2] == 1 || w.src_s[2] == w.channels) &&
      (w.dst[2] == 1 || w.dst_s[2] == w.channels);
  if (!channels_innermost(w) || !dense) {
    return false;
  }
  w.inner = w.channels;
  w.channels = 1;
  w.src_s[2] = w.dst_s[2] = 1;
  return true;
}

void merge_rows(WindowSum& w) {
  // A row's windows: one that holds all, or all that hold one.
  const auto whole = [&](int d) {
    return !w.count[d] && w.dst[d] == 1 && w.begin[d][0] == 0 &&
        w.end[d][0] == w.src[d];
  };
  const auto single = [&](int d) {
    return !w.count[d] && w.src[d] == 1 &&
        std::all_of(
            w.begin[d],
            w.begin[d] + w.dst[d],
            [](int64_t b) { return b == 0; }) &&
        std::all_of(
            w.end[d], w.end[d] + w.dst[d], [](int64_t e) { return e == 1; });
  };
  const auto merge = [&](int d) {
    const bool all = whole(2) && whole(d) &&
        (w.src[d] == 1 || w.src_s[d] == w.src[2] * w.src_s[2]);
    const bool one = single(2) && single(d) &&
        (w.dst[d] == 1 || w.dst_s[d] == w.dst[2] * w.dst_s[2]);
    const int64_t n = all ? w.src[2] * w.src[d] : w.dst[2] * w.dst[d];
    if (!(all || one) || w.src[d] * w.dst[d] == 1) {
      return all || one;
    }
    std::vector<int64_t> tables(2 * w.dst[0] + 2 * w.dst[1] + 2 * n);
    int64_t* t = tables.data();
    for (int i = 0; i < 2; ++i) {
      std::copy(w.begin[i], w.begin[i] + w.dst[i], t);
      std::copy(w.end[i], w.end[i] + w.dst[i], t + w.dst[i]);
      w.begin[i] = t;
      w.end[i] = t + w.dst[i];
      t += 2 * w.dst[i];
    }
    w.begin[2] = t;
    w.end[2] = t + n;
    if (all) {
      w.src[2] = n;
      w.src[d] = 1;
      writable(w.end[2])[0] = n;
      writable(w.end[d])[0] = 1;
    } else {
      w.dst[2] = n;
      w.dst[d] = 1;
      std::fill(t + n, t + 2 * n, 1);
    }
    w.tables = std::move(tables);
    w.pattern = WindowPattern::whole;
    return true;
  };
  if (!w.count[0] && !w.count[1] && !w.count[2] && merge(1)) {
    merge(0);
  }
}

} // namespace cpu
} // namespace torchconv

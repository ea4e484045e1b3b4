// How a block of the source lies in a strip, and packing it there. Read once per
// instruction set, by conv_pack.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

// The even lanes of two vectors.
template <typename A, int... I>
inline Vec<A> even_lanes(Vec<A> a, Vec<A> b, std::integer_sequence<int, I...>) {
  using Index = std::conditional_t<sizeof(A) == 4, int32_t, int64_t>;
  const Vec<Index> even = {(2 * I)...};
  return __builtin_shuffle(a, b, even);
}

// How one dimension of a block of the source lies in a strip: the source
// coordinates that `count` positions and all taps read, each once (dense), or
// in one row of `count` for each tap where that is shorter (large dilation or
// stride). Position m and tap j find theirs in slot m * sa + tap(j).
struct StripAxis {
  int64_t count, taps, a, b, c;
  int64_t sa, sb, s0, slots;
  int64_t plane; // slots of a residue modulo a, of split_residues; else 0
  bool dense;

  // For positions first .. first + count of a run.
  StripAxis(const AxisRun& run, int64_t first, int64_t count)
      : count(count),
        taps(run.taps),
        a(run.a),
        b(run.b),
        c(run.c + first * run.a),
        plane(0) {
    if (taps == 0 || count == 0) {
      sa = sb = s0 = slots = 0;
      dense = true;
      return;
    }
    const int64_t reach = (taps - 1) * (b < 0 ? -b : b);
    slots = (count - 1) * a + reach + 1;
    dense = slots <= count * taps;
    sa = dense ? a : 1;
    sb = dense ? b : count;
    s0 = dense && b < 0 ? reach : 0;
    if (!dense) {
      slots = count * taps;
    }
  }

  // Neighbouring positions in neighbouring slots: dense where the step is 1,
  // else the source's coordinates by their residue modulo the step, or by taps
  // where those are fewer.
  void split_residues() {
    if (a == 1 || taps == 0 || count == 0) {
      return;
    }
    dense = false;
    sa = 1;
    sb = count;
    s0 = 0;
    slots = count * taps;
    const int64_t length = count + (taps - 1) * b / a;
    if (b >= 0 && a * length < slots) {
      plane = length;
      slots = a * length;
    }
  }
  int64_t tap(int64_t j) const {
    return plane > 0 ? j * b % a * plane + j * b / a : j * sb + s0;
  }

  int64_t source(int64_t slot) const {
    if (plane > 0) {
      // Slots that no tap reads show the last coordinate that one does.
      return std::min(
                 slot % plane * a + slot / plane,
                 (count - 1) * a + (taps - 1) * b) +
          c;
    }
    return dense ? slot - s0 + c : slot % count * a + slot / count * b + c;
  }
  // The range of source coordinates, for telling whether all lie inside.
  bool inside(int64_t size) const {
    const int64_t reach = taps > 0 ? (taps - 1) * b : 0;
    const int64_t low = c + std::min<int64_t>(0, reach);
    const int64_t high = c + (count - 1) * a + std::max<int64_t>(0, reach);
    return low >= 0 && high < size;
  }
};

// Where element (channel, slots) of a strip, or of the tensor itself where it
// serves as the strip, lies.
struct StripLayout {
  int64_t c, s[3];
};

// Strips keep the source's own order of channels and pixels, so that packing
// is copying.
inline StripLayout strip_layout(
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3]) {
  StripLayout l;
  if (channels_inner) {
    l.c = 1;
    l.s[2] = channels;
    l.s[1] = l.s[2] * axis[2].slots;
    l.s[0] = l.s[1] * axis[1].slots;
  } else {
    l.s[2] = 1;
    l.s[1] = axis[2].slots;
    l.s[0] = l.s[1] * axis[1].slots;
    // An odd number of cache lines, so that channels do not share L1 sets.
    l.c = ((l.s[0] * axis[0].slots + 15) / 16 | 1) * 16;
  }
  return l;
}

inline int64_t strip_elements(
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3]) {
  const int64_t pixels = axis[0].slots * axis[1].slots * axis[2].slots;
  return channels * (channels_inner ? pixels : (pixels / 16 + 2) * 16);
}

template <typename S>
inline void convert_row(const S* from, int64_t n, acc_t<S>* to) {
  constexpr int L = kLanes<acc_t<S>>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    store(to + i, load_as(from + i));
  }
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    store_partial(to + i, load_as_partial(from + i, rest), rest);
  }
}

template <typename A>
inline void zero_row(A* to, int64_t n) {
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    store(to + i, Vec<A>{});
  }
  if (i < n) {
    store_partial(to + i, Vec<A>{}, static_cast<int>(n - i));
  }
}

// to[i] = from[i * step] for i < n.
template <typename S>
inline void copy_strided(const S* from, int64_t step, int64_t n, acc_t<S>* to) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  if (step == 2) {
    for (; i + L < n; i += L) { // the second load ends within the elements
      store(
          to + i,
          even_lanes<A>(
              load_as(from + 2 * i),
              load_as(from + 2 * i + L),
              std::make_integer_sequence<int, L>()));
    }
  }
  for (; i < n; ++i) {
    to[i] = static_cast<A>(from[i * step]);
  }
}

// One row of slots of one channel.
template <typename S>
inline void pack_row(
    const S* src,
    int64_t stride,
    int64_t size,
    PaddingMode mode,
    const StripAxis& axis,
    acc_t<S>* to) {
  using A = acc_t<S>;
  int64_t slot = 0;
  if (axis.dense) {
    const int64_t start = axis.source(0);
    const auto edge = [&](int64_t end) {
      for (; slot < end; ++slot) {
        const int64_t i = source_index(start + slot, size, mode);
        to[slot] = i < 0 ? acc_t<S>(0) : static_cast<acc_t<S>>(src[i * stride]);
      }
    };
    const int64_t slots = axis.slots;
    edge(std::min(slots, std::max<int64_t>(0, -start)));
    const int64_t end = std::min(slots, size - start);
    if (slot < end) {
      const S* from = src + (start + slot) * stride;
      if (stride == 1) {
        convert_row(from, end - slot, to + slot);
      } else {
        for (int64_t i = slot; i < end; ++i) {
          to[i] = static_cast<acc_t<S>>(from[(i - slot) * stride]);
        }
      }
      slot = end;
    }
    edge(slots);
    return;
  }
  if (axis.plane > 0) {
    // What lies inside is copied by vectors where every second element is
    // wanted; the borders one by one.
    for (int64_t r = 0; r < axis.a; ++r) {
      const int64_t start = axis.c + r;
      const int64_t first =
          std::min(axis.plane, start < 0 ? (axis.a - 1 - start) / axis.a : 0);
      const int64_t last = std::max(
          first, std::min(axis.plane, (size - start + axis.a - 1) / axis.a));
      A* row = to + r * axis.plane;
      const auto edge = [&](int64_t q, int64_t end) {
        for (; q < end; ++q) {
          const int64_t i =
              source_index(axis.source(r * axis.plane + q), size, mode);
          row[q] = i < 0 ? A(0) : static_cast<A>(src[i * stride]);
        }
      };
      edge(0, first);
      copy_strided(
          src + (start + first * axis.a) * stride,
          axis.a * stride,
          last - first,
          row + first);
      edge(last, axis.plane);
    }
    return;
  }
  for (int64_t j = 0; j < axis.taps; ++j) {
    for (int64_t m = 0; m < axis.count; ++m, ++slot) {
      const int64_t i =
          source_index(m * axis.a + j * axis.b + axis.c, size, mode);
      to[slot] = i < 0 ? acc_t<S>(0) : static_cast<acc_t<S>>(src[i * stride]);
    }
  }
}

// Copies what the axes name of `channels` channels into a strip.
template <typename S>
void pack_strip(
    const S* src,
    const Strides& stride,
    const int64_t (&size)[3],
    PaddingMode mode,
    int64_t channels,
    bool channels_inner,
    const StripAxis (&axis)[3],
    const StripLayout& layout,
    acc_t<S>* strip) {
  using A = acc_t<S>;
  if (!channels_inner) {
    // Channel by channel, so that what is read and written stays in L1.
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t d = 0; d < axis[0].slots; ++d) {
        const int64_t sd = source_index(axis[0].source(d), size[0], mode);
        for (int64_t h = 0; h < axis[1].slots; ++h) {
          const int64_t sh = source_index(axis[1].source(h), size[1], mode);
          A* to = strip + c * layout.c + d * layout.s[0] + h * layout.s[1];
          if (sd < 0 || sh < 0) {
            zero_row(to, axis[2].slots);
          } else {
            pack_row(
                src + c * stride.c + sd * stride.s[0] + sh * stride.s[1],
                stride.s[2],
                size[2],
                mode,
                axis[2],
                to);
          }
        }
      }
    }
    return;
  }
  for (int64_t d = 0; d < axis[0].slots; ++d) {
    const int64_t sd = source_index(axis[0].source(d), size[0], mode);
    for (int64_t h = 0; h < axis[1].slots; ++h) {
      const int64_t sh = source_index(axis[1].source(h), size[1], mode);
      const int64_t slots = axis[2].slots;
      A* to = strip + d * layout.s[0] + h * layout.s[1];
      if (sd < 0 || sh < 0) {
        std::fill_n(to, slots * channels, A(0));
        continue;
      }
      const S* row = src + sd * stride.s[0] + sh * stride.s[1];
      int64_t w = 0;
      const auto pixels = [&](int64_t end) {
        for (; w < end; ++w) {
          const int64_t sw = source_index(axis[2].source(w), size[2], mode);
          if (sw < 0) {
            std::fill_n(to + w * channels, channels, A(0));
          } else {
            convert_row(row + sw * stride.s[2], channels, to + w * channels);
          }
        }
      };
      if (axis[2].dense && stride.s[2] == channels) {
        // Pixels without gaps: all that lie inside are one row.
        const int64_t start = axis[2].source(0);
        const int64_t first = std::min(slots, std::max<int64_t>(0, -start));
        const int64_t last = std::max(first, std::min(slots, size[2] - start));
        pixels(first);
        convert_row(
            row + (start + first) * channels,
            (last - first) * channels,
            to + first * channels);
        w = last;
      }
      pixels(slots);
    }
  }
}

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

// Between tensors and strips (conv_depthwise_strip.h): rows in, with padding,
// stride residues and types resolved, and results out; read once per
// instruction set, after
// conv_depthwise_stage.h.

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// A block of output positions.
struct Block {
  int64_t first[3], count[3];
};

inline Block strip_block(const StripShape& s, int64_t i) {
  Block b;
  for (int d = 2; d >= 0; --d) {
    const int64_t at = i % s.blocks[d] * s.block[d];
    i /= s.blocks[d];
    b.first[d] = s.first[d] + at;
    b.count[d] = std::max<int64_t>(0, std::min(s.block[d], s.count[d] - at));
  }
  return b;
}

// n elements that lie `step` apart, widened.
template <typename S>
void widen(const S* src, int64_t step, int64_t n, acc_t<S>* dst) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  if (step == 1) {
    for (; i + L <= n; i += L) {
      store(dst + i, load_as(src + i));
    }
    if (i < n && n >= L) {
      store(dst + n - L, load_as(src + n - L));
    } else if (i < n) {
      store_partial(
          dst, load_as_partial(src, static_cast<int>(n)), static_cast<int>(n));
    }
    return;
  }
  if (step == 2) {
    // The last element of the second vector is not read: it may not exist.
    for (; i + L < n; i += L) {
      store(
          dst + i,
          every_other<0, A>(load_as(src + 2 * i), load_as(src + 2 * i + L)));
    }
  }
  for (; i < n; ++i) {
    dst[i] = static_cast<A>(src[i * step]);
  }
}

// The reverse, into neighbours.
template <typename S>
void narrow(const acc_t<S>* src, int64_t n, S* dst, int64_t step) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  int64_t i = 0;
  if (step == 1) {
    for (; i + L <= n; i += L) {
      store_as(dst + i, load(src + i));
    }
    if (i < n && n >= L) {
      store_as(dst + n - L, load(src + n - L));
    } else if (i < n) {
      store_as_partial(
          dst, load_partial(src, static_cast<int>(n)), static_cast<int>(n));
    }
    return;
  }
  for (; i < n; ++i) {
    dst[i * step] = S(src[i]);
  }
}

template <typename A>
inline void fill_zero(A* dst, int64_t n) {
  std::memset(static_cast<void*>(dst), 0, n * sizeof(A));
}

// One row of one slot: element e shows coordinate (first + e) * scale + shift
// of the source, [inside, outside) of them without a look at the padding.
struct RowMap {
  int64_t n, at, scale, size, step; // at: coordinate of element 0
  int64_t inside, outside;
  PaddingMode mode;
  RowMap(const StripShape& s, const Block& b, int64_t slot)
      : n(b.count[2] + s.reach[2]),
        at(s.source_at(2, slot, b.first[2])),
        scale(s.scale[2]),
        size(s.source.size[2]),
        step(s.source.stride.s[2]),
        mode(s.mode) {
    inside = std::min(n, std::max<int64_t>(0, ceil_div(-at, scale)));
    outside = std::max(inside, std::min(n, ceil_div(size - at, scale)));
  }
};

// Calls row(e0, e1, offset) for every row of a slot's plane: offset of the row
// in the source, or -1 where it lies in zeros.
template <typename F>
void for_rows(
    const StripShape& s,
    const Block& b,
    int64_t slot0,
    int64_t slot1,
    const F& row) {
  for (int64_t e0 = 0; e0 < b.count[0] + s.reach[0]; ++e0) {
    const int64_t z = source_index(
        s.source_at(0, slot0, b.first[0] + e0), s.source.size[0], s.mode);
    for (int64_t e1 = 0; e1 < b.count[1] + s.reach[1]; ++e1) {
      const int64_t y = source_index(
          s.source_at(1, slot1, b.first[1] + e1), s.source.size[1], s.mode);
      row(e0 * s.extent[1] + e1,
          z < 0 || y < 0 ? -1
                         : z * s.source.stride.s[0] + y * s.source.stride.s[1]);
    }
  }
}

// Lanes lo <= l < hi of p; the others are zero and not read.
template <typename S>
inline Vec<acc_t<S>> load_between(const S* p, int64_t lo, int64_t hi) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  if (lo <= 0 && hi >= L) {
    return load_as(p);
  }
  const int first =
      static_cast<int>(std::min<int64_t>(std::max<int64_t>(lo, 0), L));
  const int last =
      static_cast<int>(std::max<int64_t>(std::min<int64_t>(hi, L), first));
#if defined(TC_AVX512)
  const uint32_t mask = ((1u << last) - 1u) & ~((1u << first) - 1u);
  if constexpr (sizeof(S) == 4) {
    return (Vec<A>)_mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), p);
  } else if constexpr (sizeof(S) == 8) {
    return (Vec<A>)_mm512_maskz_loadu_epi64(static_cast<__mmask8>(mask), p);
  } else {
    S lanes[L];
    const __m256i bits =
        _mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), p);
    std::memcpy(lanes, &bits, sizeof(bits));
    return load_as(lanes);
  }
#elif defined(TC_AVX2)
  if constexpr (sizeof(S) == 4) {
    const Vec<int32_t> lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return (Vec<A>)_mm256_maskload_epi32(
        reinterpret_cast<const int*>(p),
        (__m256i)((lane >= first) & (lane < last)));
  } else if constexpr (sizeof(S) == 8) {
    const Vec<int64_t> lane = {0, 1, 2, 3};
    return (Vec<A>)_mm256_maskload_epi64(
        reinterpret_cast<const long long*>(p),
        (__m256i)((lane >= first) & (lane < last)));
  }
#endif
  alignas(kVectorBytes) S lanes[L] = {};
  for (int l = first; l < last; ++l) {
    lanes[l] = p[l];
  }
  return load_as(lanes);
}

// Whether rows are packed by vectors: their elements are neighbours, or every
// other one, and what lies outside is zero.
inline bool by_vectors(const RowMap& m) {
  return m.mode == PaddingMode::zeros && m.step == 1 && m.scale <= 2;
}

// Two rows from one of stride 2: the elements at m.at + 2 e, and those after
// them. The second may be null.
template <typename S>
void pack_halves(const RowMap& m, const S* src, acc_t<S>* even, acc_t<S>* odd) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  for (int64_t e = 0; e < m.n; e += L) {
    const int64_t at = m.at + 2 * e;
    const Vec<A> a = load_between(src + at, -at, m.size - at);
    const Vec<A> b = load_between(src + at + L, -at - L, m.size - at - L);
    const int lanes = static_cast<int>(std::min<int64_t>(L, m.n - e));
    store_lanes(even + e, every_other<0, A>(a, b), lanes);
    if (odd != nullptr) {
      store_lanes(odd + e, every_other<1, A>(a, b), lanes);
    }
  }
}

template <typename S>
void pack_row(const RowMap& m, const S* src, acc_t<S>* dst) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  if (by_vectors(m)) {
    if (m.scale == 2) {
      return pack_halves<S>(m, src, dst, nullptr);
    }
    // The last vector may write beyond the row's end: into the next one, which
    // is written later.
    for (int64_t e = 0; e < m.n; e += L) {
      store(dst + e, load_between(src + m.at + e, m.inside - e, m.outside - e));
    }
    return;
  }
  const auto edge = [&](int64_t e) {
    const int64_t i = source_index(m.at + e * m.scale, m.size, m.mode);
    dst[e] = i < 0 ? A(0) : static_cast<A>(src[i * m.step]);
  };
  for (int64_t e = 0; e < m.inside; ++e) {
    edge(e);
  }
  if (m.outside > m.inside) {
    widen(
        src + (m.at + m.inside * m.scale) * m.step,
        m.step * m.scale,
        m.outside - m.inside,
        dst + m.inside);
  }
  for (int64_t e = m.outside; e < m.n; ++e) {
    edge(e);
  }
}

// pack_positions where the channels are what lies side by side.
template <typename S>
void pack_turned(
    const StripShape& s,
    const Block& b,
    const S* src,
    int64_t channels,
    acc_t<S>* strip) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const int64_t slot_size = s.extent[0] * s.extent[1] * s.extent[2];
  for (int64_t s0 = 0; s0 < s.slots[0]; ++s0) {
    for (int64_t s1 = 0; s1 < s.slots[1]; ++s1) {
      for (int64_t s2 = 0; s2 < s.slots[2]; ++s2, strip += slot_size) {
        const RowMap m(s, b, s2);
        for_rows(s, b, s0, s1, [&](int64_t e1, int64_t offset) {
          A* to = strip + e1 * s.extent[2];
          const S* row = src + offset;
          const auto edge = [&](int64_t e) {
            const int64_t i = offset < 0
                ? -1
                : source_index(m.at + e * m.scale, m.size, m.mode);
            for (int64_t c = 0; c < channels; ++c) {
              to[c * s.plane() + e] =
                  i < 0 ? A(0) : static_cast<A>(row[i * m.step + c]);
            }
          };
          if (offset < 0) {
            for (int64_t c = 0; c < channels; ++c) {
              fill_zero(to + c * s.plane(), m.n);
            }
            return;
          }
          for (int64_t e = 0; e < m.inside; ++e) {
            edge(e);
          }
          const int64_t step = m.scale * m.step;
          for_vectors<L>(m.outside - m.inside, [&](int64_t e, int count) {
            e += m.inside;
            const S* at = row + (m.at + e * m.scale) * m.step;
            for (int64_t c = 0; c < channels; c += L) {
              const int lanes =
                  static_cast<int>(std::min<int64_t>(L, channels - c));
              turn(at + c, step, count, lanes, [&](int i, Vec<A> v) {
                if (i < lanes) {
                  store_lanes(to + (c + i) * s.plane() + e, v, count);
                }
              });
            }
          });
          for (int64_t e = m.outside; e < m.n; ++e) {
            edge(e);
          }
        });
      }
    }
  }
}

// The strip of `channels` channels, positions in the lanes.
template <typename S>
void pack_positions(
    const StripShape& s,
    const Block& b,
    const S* src,
    int64_t channels,
    acc_t<S>* strip) {
  if (channels > 1 && s.source.stride.c == 1) {
    return pack_turned(s, b, src, channels, strip);
  }
  const int64_t slot_size = s.extent[0] * s.extent[1] * s.extent[2];
  for (int64_t c = 0; c < channels; ++c, src += s.source.stride.c) {
    for (int64_t s0 = 0; s0 < s.slots[0]; ++s0) {
      for (int64_t s1 = 0; s1 < s.slots[1]; ++s1) {
        for (int64_t s2 = 0; s2 < s.slots[2]; ++s2, strip += slot_size) {
          const RowMap m(s, b, s2);
          if (s.slots[2] == 2 && by_vectors(m)) { // stride 2: both at once
            for_rows(s, b, s0, s1, [&](int64_t e, int64_t offset) {
              acc_t<S>* even = strip + e * s.extent[2];
              if (offset < 0) {
                fill_zero(even, m.n);
                fill_zero(even + slot_size, m.n);
              } else {
                pack_halves(m, src + offset, even, even + slot_size);
              }
            });
            ++s2;
            strip += slot_size;
            continue;
          }
          for_rows(s, b, s0, s1, [&](int64_t e, int64_t offset) {
            if (offset < 0) {
              fill_zero(strip + e * s.extent[2], m.n);
            } else {
              pack_row(m, src + offset, strip + e * s.extent[2]);
            }
          });
        }
      }
    }
  }
}

// The strip of `lanes` neighbouring channels, which lie in the lanes.
template <typename S>
void pack_channels(
    const StripShape& s,
    const Block& b,
    const S* src,
    int lanes,
    acc_t<S>* strip) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const int64_t slot_size = s.extent[0] * s.extent[1] * s.extent[2] * L;
  for (int64_t s0 = 0; s0 < s.slots[0]; ++s0) {
    for (int64_t s1 = 0; s1 < s.slots[1]; ++s1) {
      for (int64_t s2 = 0; s2 < s.slots[2]; ++s2, strip += slot_size) {
        const RowMap m(s, b, s2);
        for_rows(s, b, s0, s1, [&](int64_t e1, int64_t offset) {
          A* dst = strip + e1 * s.extent[2] * L;
          if (offset < 0) {
            return fill_zero(dst, m.n * L);
          }
          const S* row = src + offset;
          const auto edge = [&](int64_t e) {
            const int64_t i = source_index(m.at + e * m.scale, m.size, m.mode);
            store(
                dst + e * L,
                i < 0 ? Vec<A>{} : load_lanes(row + i * m.step, lanes));
          };
          for (int64_t e = 0; e < m.inside; ++e) {
            edge(e);
          }
          const S* at = row + (m.at + m.inside * m.scale) * m.step;
          const int64_t step = m.scale * m.step;
          if (lanes == L) {
            for (int64_t e = m.inside; e < m.outside; ++e, at += step) {
              store(dst + e * L, load_as(at));
            }
          } else {
            for (int64_t e = m.inside; e < m.outside; ++e, at += step) {
              store(dst + e * L, load_as_partial(at, lanes));
            }
          }
          for (int64_t e = m.outside; e < m.n; ++e) {
            edge(e);
          }
        });
      }
    }
  }
}

// Positions of a block that exist in dest, for a phase: [begin, end) counted
// from the block's first.
struct Valid {
  int64_t begin, end;
  Valid(const StripShape& s, const Block& b, int d, int64_t phase) {
    const int64_t at = s.dest_at(d, phase) + b.first[d] * s.dest_scale[d];
    begin = std::max<int64_t>(0, ceil_div(-at, s.dest_scale[d]));
    end = std::min(b.count[d], ceil_div(s.dest.size[d] - at, s.dest_scale[d]));
    end = std::max(begin, end);
  }
};

// gy for weight_grad: `channels` planes of rows that are as far apart as the
// products with them go, zero in the lanes between.
template <typename S>
void pack_gradient(
    const StripShape& s,
    const Block& b,
    const S* gy,
    int64_t channels,
    int lanes,
    acc_t<S>* out) {
  using A = acc_t<S>;
  constexpr int L = kLanes<A>;
  const Planes& d = s.dest;
  const bool turned = !s.channel_lanes && channels > 1 && d.stride.c == 1;
  if (s.flat) {
    fill_zero(out, channels * s.out_size());
  }
  for (int64_t c = 0; c < channels; ++c) {
    A* plane = out + c * s.out_size();
    for (int64_t z = 0; z < b.count[0]; ++z) {
      for (int64_t y = 0; y < b.count[1]; ++y) {
        const S* row = gy + c * d.stride.c + (b.first[0] + z) * d.stride.s[0] +
            (b.first[1] + y) * d.stride.s[1] + b.first[2] * d.stride.s[2];
        if (s.channel_lanes) {
          A* dst = plane + (z * s.block[1] + y) * s.out_row();
          for (int64_t x = 0; x < b.count[2]; ++x) {
            store(dst + x * L, load_lanes(row + x * d.stride.s[2], lanes));
          }
          continue;
        }
        A* dst = plane + (z * s.out_rows() + y) * s.out_row();
        if (!s.flat) {
          fill_zero(dst + b.count[2], round_up(b.count[2], L) - b.count[2]);
        }
        if (!turned) {
          widen(row, d.stride.s[2], b.count[2], dst);
        } else if (c % L == 0) {
          const int wide = static_cast<int>(std::min<int64_t>(L, channels - c));
          for_vectors<L>(b.count[2], [&](int64_t x, int count) {
            turn(
                row + x * d.stride.s[2],
                d.stride.s[2],
                count,
                wide,
                [&](int i, Vec<A> v) {
                  if (i < wide) {
                    store_lanes(dst + i * s.out_size() + x, v, count);
                  }
                });
          });
        }
      }
    }
  }
}

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

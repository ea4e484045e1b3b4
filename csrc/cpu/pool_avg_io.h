// Where window sums read and write; read once per instruction set (no #pragma
// once on purpose: see foreach_isa.h). The file that reads it includes
// <algorithm>, <memory>, <type_traits> and <utility> itself.
//
// A source keeps a list of rows and gives vectors of them, already in the type
// that sums are made in:
//
//   reset(); add(n, c, d, h)     the list of rows; count of them: rows
//   vec(r, i, c)                 kLanes elements from column i, channel c on
//   part(r, i, c, lanes)         the same, fewer lanes, the others zero
//   one(r, i)                    one element
//   unit()                       columns lie side by side
//   near()                       what pool_near_sums.h needs of it
//
// A sink takes finished sums and writes them:
//
//   row(n, c, d, h)              choose the destination row
//   put(i, v), part(i, v, lanes) element i of the row on
//   pixel(i), put_at(c, v), part_at(c, v, lanes)   channels of column i
//   repeat(i, j, c, n)           if kRepeats: column j is as column i
//   near(d, h)                   what pool_near_sums.h needs of it

namespace torchconv {
namespace cpu {
namespace TC_ISA {
namespace {

// The rows of one strided tensor.
template <typename S>
struct RowList {
  const S* base = nullptr;
  int64_t stride_n = 0, stride_c = 0, stride[3] = {};
  std::unique_ptr<const S*[]> row;

  RowList() = default;
  RowList(const void* data, const WindowSum& w)
      : base(static_cast<const S*>(data)),
        stride_n(w.src_n),
        stride_c(w.src_c),
        stride{w.src_s[0], w.src_s[1], w.src_s[2]} {}
  RowList(const RowList& o)
      : base(o.base),
        stride_n(o.stride_n),
        stride_c(o.stride_c),
        stride{o.stride[0], o.stride[1], o.stride[2]} {}

  void reserve(int64_t n) {
    row.reset(new const S*[n]);
  }
  void set(int64_t r, int64_t n, int64_t c, int64_t d, int64_t h) {
    row[r] = base + n * stride_n + c * stride_c + d * stride[0] + h * stride[1];
  }
  const S* at(int64_t r, int64_t i, int64_t c) const {
    return row[r] + i * stride[2] + c;
  }
};

// A tensor as it is.
template <typename S>
struct Plain {
  using Storage = S;
  using A = acc_t<S>;
  RowList<S> x;

  void reserve(int64_t n) {
    x.reserve(n);
  }
  void set(int64_t r, int64_t n, int64_t c, int64_t d, int64_t h) {
    x.set(r, n, c, d, h);
  }
  Vec<A> vec(int64_t r, int64_t i, int64_t c) const {
    return load_as(x.at(r, i, c));
  }
  Vec<A> part(int64_t r, int64_t i, int64_t c, int lanes) const {
    return load_as_partial(x.at(r, i, c), lanes);
  }
  A one(int64_t r, int64_t i) const {
    return static_cast<A>(*x.at(r, i, 0));
  }
  bool unit() const {
    return x.stride[2] == 1;
  }
#if defined(TC_AVX512)
  struct Near {
    Vec<A> lanes(const S* p, unsigned mask) const {
      return load_lanes(p, mask, Vec<A>{});
    }
  };
  Near near() const {
    return {};
  }
#endif
};

// The destination tensor of any sink.
template <typename S>
struct Target {
  using A = acc_t<S>;
  static constexpr bool kRepeats = false;
  S* base;
  int64_t stride_n, stride_c, stride[3];
  S* p = nullptr; // the row
  S* q = nullptr; // the pixel

  Target(void* data, const WindowSum& w)
      : base(static_cast<S*>(data)),
        stride_n(w.dst_n),
        stride_c(w.dst_c),
        stride{w.dst_s[0], w.dst_s[1], w.dst_s[2]} {}

  void row(int64_t n, int64_t c, int64_t d, int64_t h) {
    p = base + n * stride_n + c * stride_c + d * stride[0] + h * stride[1];
  }
  void pixel(int64_t i) {
    q = p + i * stride[2];
  }
  void store(int64_t i, const Vec<A>& v, int lanes) const {
    if (stride[2] != 1) {
      for (int j = 0; j < lanes; ++j) {
        p[(i + j) * stride[2]] = S(v[j]);
      }
    } else if (lanes == kLanes<A>) {
      store_as(p + i, v);
    } else {
      store_as_partial(p + i, v, lanes);
    }
  }
};

// Sums divided by their count: a forward average. x / 2^n is x * 2^-n.
template <typename S>
struct Average : Target<S> {
  using A = acc_t<S>;
  using Target<S>::store;
  static constexpr bool kGradient = false;
  const WindowSum& w;
  const A* width; // divisors along the row, or null
  A here = 1; // divisor of the row, and of the pixel
  A pixel_divisor = 1;
  A inverse = 0; // of a divisor that is a power of two, or zero

  Average(void* data, const WindowSum& w_, const A* width_)
      : Target<S>(data, w_),
        w(w_),
        width(width_) {}

  static A exact_inverse(A d) {
    uint64_t bits = 0;
    std::memcpy(&bits, &d, sizeof(A));
    const uint64_t mantissa = sizeof(A) == 4 ? 0x7fffffu : 0xfffffffffffffull;
    return (bits & mantissa) == 0 ? A(1) / d : A(0);
  }
  void row(int64_t n, int64_t c, int64_t d, int64_t h) {
    Target<S>::row(n, c, d, h);
    int64_t divisor = w.divisor;
    divisor *= w.count[0] ? w.count[0][d] : 1;
    divisor *= w.count[1] ? w.count[1][h] : 1;
    if (here != static_cast<A>(divisor) || inverse == 0) {
      here = static_cast<A>(divisor);
      inverse = w.count[2] ? A(0) : exact_inverse(here);
    }
    pixel_divisor = here;
  }
  void pixel(int64_t i) {
    Target<S>::pixel(i);
    if (w.count[2]) {
      pixel_divisor = here * static_cast<A>(w.count[2][i]);
    }
  }
  // The averages of elements i, ... of the row, and of the pixel. The table of
  // divisors ends with slack.
  Vec<A> averaged(int64_t i, const Vec<A>& v) const {
    return width ? v / (here * load(width + i)) : divided(v, here);
  }
  Vec<A> averaged_at(const Vec<A>& v) const {
    return divided(v, pixel_divisor);
  }
  void put(int64_t i, const Vec<A>& v) const {
    store(i, averaged(i, v), kLanes<A>);
  }
  void part(int64_t i, const Vec<A>& v, int lanes) const {
    store(i, averaged(i, v), lanes);
  }
  void put_at(int64_t c, const Vec<A>& v) const {
    store_as(this->q + c, averaged_at(v));
  }
  void part_at(int64_t c, const Vec<A>& v, int lanes) const {
    store_as_partial(this->q + c, averaged_at(v), lanes);
  }

#if defined(TC_AVX512)
  struct Near {
    A here, reciprocal;
    bool exact; // the reciprocal
    const A* width;

    Vec<A> averaged(int64_t i, const Vec<A>& v) const {
      if (width) {
        return v / (here * load(width + i));
      }
      return exact ? v * reciprocal : quotient<A>(v, here, reciprocal);
    }
    Vec<A> finished(const S*, int64_t i, const Vec<A>& v, unsigned) const {
      return averaged(i, v);
    }
  };
  Near near(int64_t d, int64_t h) {
    row(0, 0, d, h);
    return {here, A(1) / here, inverse != 0, width};
  }
#endif

 private:
  Vec<A> divided(const Vec<A>& v, A d) const {
    return inverse != 0 ? v * inverse : v / d;
  }
};

// Sums times one factor: a gradient, whose uneven weights went in before.
template <typename S>
struct Scaled : Target<S> {
  using A = acc_t<S>;
  using Target<S>::store;
  static constexpr bool kGradient = true; // the counts are those of sources
  static constexpr bool kRepeats = true; // equal sums give equal elements
  A factor;

  Scaled(void* data, const WindowSum& w)
      : Target<S>(data, w),
        factor(A(1) / static_cast<A>(w.divisor)) {}

  void put(int64_t i, const Vec<A>& v) const {
    store(i, v * factor, kLanes<A>);
  }
  void part(int64_t i, const Vec<A>& v, int lanes) const {
    store(i, v * factor, lanes);
  }
  void put_at(int64_t c, const Vec<A>& v) const {
    store_as(this->q + c, v * factor);
  }
  void part_at(int64_t c, const Vec<A>& v, int lanes) const {
    store_as_partial(this->q + c, v * factor, lanes);
  }
#if defined(TC_AVX512)
  struct Near {
    A factor;
    Vec<A> finished(const S*, int64_t, const Vec<A>& v, unsigned) const {
      return v * factor;
    }
  };
  Near near(int64_t, int64_t) const {
    return {factor};
  }
#endif
  // n channels from c on of column `from`, once more.
  void repeat(int64_t from, int64_t to, int64_t c, int64_t n) const {
    std::memcpy(
        this->p + to * this->stride[2] + c,
        this->p + from * this->stride[2] + c,
        n * sizeof(S));
  }
};

} // namespace
} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

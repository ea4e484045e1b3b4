// The epilogue (core/epilogue.h) of elements that a kernel has just written, and
// that are therefore still in the nearest cache. Read once per instruction set.

namespace torchconv {
namespace cpu {
namespace TC_ISA {

template <Activation F, typename A>
inline Vec<A> activated(Vec<A> v, Vec<A> a, Vec<A> b) {
  const Vec<A> zero{};
  // Comparisons with a NaN are false, and leave it where it is.
  if constexpr (F == Activation::relu) {
    return v < zero ? zero : v;
  } else if constexpr (F == Activation::hardtanh) {
    v = v < a ? a : v;
    return v > b ? b : v;
  } else if constexpr (F == Activation::leaky_relu) {
    return v > zero ? v : v * a;
  } else if constexpr (
      F == Activation::hardswish || F == Activation::hardsigmoid) {
    const Vec<A> six = zero + A(6);
    Vec<A> gate = v + A(3);
    gate = gate < zero ? zero : gate;
    gate = gate > six ? six : gate;
    return F == Activation::hardswish ? v * gate / A(6) : gate / A(6);
  } else {
    return v;
  }
}

// result: the address of the whole result, for the residual's sake.
template <typename S>
class Finish {
 public:
  using A = acc_t<S>;
  static constexpr int L = kLanes<A>;

  Finish(const Epilogue& e, const S* result)
      : result_(result),
        residual_(static_cast<const S*>(e.residual)),
        any_(e.any()),
        a_(static_cast<A>(e.a)),
        b_(static_cast<A>(e.b)) {
    switch (e.activation) {
      case Activation::relu:
        row_ = rows_of<Activation::relu>();
        break;
      case Activation::hardtanh:
        row_ = rows_of<Activation::hardtanh>();
        break;
      case Activation::leaky_relu:
        row_ = rows_of<Activation::leaky_relu>();
        break;
      case Activation::hardswish:
        row_ = rows_of<Activation::hardswish>();
        break;
      case Activation::hardsigmoid:
        row_ = rows_of<Activation::hardsigmoid>();
        break;
      default:
        row_ = rows_of<Activation::none>();
    }
  }

  // Whether there is anything to do.
  explicit operator bool() const {
    return any_;
  }

  // n elements side by side.
  void row(S* to, int64_t n) const {
    block(to, 1, 0, n, 1);
  }

  // rows * n elements: to[i * row + j * step].
  void block(S* to, int64_t rows, int64_t row, int64_t n, int64_t step) const {
    if (step == 1 || n == 1) {
      row_(*this, to, rows, row, n);
    } else if (row == 1) {
      row_(*this, to, n, step, rows);
    } else {
      for (int64_t i = 0; i < rows; ++i) {
        row_(*this, to + i * row, n, step, 1);
      }
    }
  }

 private:
  using Rows = void (*)(const Finish&, S*, int64_t, int64_t, int64_t);

  template <Activation F>
  Rows rows_of() const {
    return residual_ == nullptr ? &run<F, false> : &run<F, true>;
  }

  template <Activation F, bool Add>
  static void run(
      const Finish& f,
      S* first,
      int64_t rows,
      int64_t row,
      int64_t n) {
    const Vec<A> a = broadcast(f.a_), b = broadcast(f.b_);
    for (int64_t r = 0; r < rows; ++r) {
      S* to = first + r * row;
      const S* from = Add ? f.residual_ + (to - f.result_) : nullptr;
      int64_t i = 0;
      for (; i + L <= n; i += L) {
        Vec<A> v = load_as(to + i);
        if constexpr (Add) {
          v += load_as(from + i);
        }
        store_as(to + i, activated<F, A>(v, a, b));
      }
      if (i < n) {
        const int rest = static_cast<int>(n - i);
        Vec<A> v = load_as_partial(to + i, rest);
        if constexpr (Add) {
          v += load_as_partial(from + i, rest);
        }
        store_as_partial(to + i, activated<F, A>(v, a, b), rest);
      }
    }
  }

  const S* result_;
  const S* residual_;
  bool any_;
  A a_, b_;
  Rows row_;
};

} // namespace TC_ISA
} // namespace cpu
} // namespace torchconv

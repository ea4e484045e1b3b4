// One convolution, in numbers: sizes, options and where each tensor's elements
// lie. The three passes are the three ways of reading it:
//
//   forward      y[n,k,o] = bias[k] + sum_{c,t} x[n,c,i] w[k,c,t]
//   input_grad  gx[n,c,i] = bias[c] + sum_{k,t,o} gy[n,k,o] w[k,c,t]
//   weight_grad gw[k,c,t] = sum_{n,o} gy[n,k,o] x[n,c,i]
//
// over all (o, t, i) with i = source_index(o * stride + t * dilation - low).
// Channels c and k run within their group. A 1-d or 2-d problem has leading
// dimensions of size 1.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace torchconv {

enum class Pass : int8_t { forward, input_grad, weight_grad };
enum class PaddingMode : int8_t { zeros, reflect, replicate, circular };

// Strides in elements: of the batch (of the output channel, for a weight), the
// channel, and the three spatial dimensions.
struct Strides {
  int64_t n, c, s[3];
};

struct ConvProblem {
  int64_t batch, in_channels, out_channels, groups;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  int64_t low[3], high[3]; // padding
  PaddingMode mode;
  DType dtype;
  Strides x, w, y;
  bool tf32; // factors of float32 may be rounded to TF32 where that is faster

  constexpr int64_t in_group() const {
    return in_channels / groups;
  }
  constexpr int64_t out_group() const {
    return out_channels / groups;
  }
  constexpr int64_t taps() const {
    return kernel[0] * kernel[1] * kernel[2];
  }
  constexpr int64_t out_pixels() const {
    return out[0] * out[1] * out[2];
  }
  constexpr int64_t in_pixels() const {
    return in[0] * in[1] * in[2];
  }
};

const char* pass_name(Pass pass);
bool parse_pass(const char* name, Pass* pass);
bool parse_padding_mode(const char* name, PaddingMode* mode);

// How many positions a kernel takes on an input: floor((in + low + high -
// dilation (kernel - 1) - 1) / stride) + 1, not below 0.
inline int64_t conv_output_size(
    int64_t in,
    int64_t kernel,
    int64_t stride,
    int64_t dilation,
    int64_t low,
    int64_t high) {
  const int64_t room = in + low + high - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

// The input element that a coordinate of the padded input shows, or -1 where
// it shows a zero. Padding is at most one turn wide, as in torch: below size
// for reflect, up to size for circular. Strips and tiles are rounded up and ask
// beyond it, too, where any element will do: it is one of the input, or -1.
constexpr int64_t source_index(int64_t q, int64_t size, PaddingMode mode) {
  if (q >= 0 && q < size) {
    return q;
  }
  int64_t shown = -1;
  switch (mode) {
    case PaddingMode::reflect:
      shown = q < 0 ? -q : 2 * (size - 1) - q;
      break;
    case PaddingMode::replicate:
      shown = q < 0 ? 0 : size - 1;
      break;
    case PaddingMode::circular:
      shown = q < 0 ? q + size : q - size;
      break;
    default:
      break;
  }
  return shown >= 0 && shown < size ? shown : -1;
}

// Multiplications and additions, the taps that fall outside counted: 2 * N * K
// * out * C/groups * kernel for every pass.
double conv_flops(const ConvProblem& p);

// Bytes that must move: each tensor once.
double conv_bytes(const ConvProblem& p);

// The same problem with fewer, longer dimensions where that is only a matter
// of looking: a pointwise pair of dimensions that lie gapless in x and y is
// one dimension, and a last dimension of size 1 changes places with the one
// before, since kernels work along the last.
ConvProblem simplified(const ConvProblem& p);

} // namespace torchconv

// channel_sum: schema and the CPU's kernel.
#include "bindings/channel_sum.h"

#include "bindings/cpu.h"
#include "cpu/channel_sum.h"

namespace torchconv {
namespace {

struct ChannelSumOnCpu : OnCpu {
  using OnCpu::OnCpu;

  void channel_sum(const ChannelSum& p, const Tensor& x, void* out) const {
    cpu::channel_sum(p, x.const_data_ptr(), out);
  }
};

} // namespace
} // namespace torchconv

STABLE_TORCH_LIBRARY_FRAGMENT(torchconv, m) {
  m.def("channel_sum(Tensor x) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(torchconv, CPU, m) {
  m.impl(
      "channel_sum",
      TORCH_BOX(&torchconv::channel_sum<torchconv::ChannelSumOnCpu>));
}

// Which instruction set the kernels run on: chosen once from what the CPU has,
// never from how the extension was compiled.
#pragma once

namespace torchconv {
namespace cpu {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };

const char* isa_name(Isa isa);
bool isa_supported(Isa isa); // by this CPU and by this build
Isa best_isa();

// What the kernels use now: best_isa(), or TORCHCONV_CPU_ISA from the
// environment, or what set_isa put there. An ISA the machine lacks is refused.
Isa active_isa();
bool set_isa(Isa isa);
bool parse_isa(const char* name, Isa* isa);

} // namespace cpu
} // namespace torchconv

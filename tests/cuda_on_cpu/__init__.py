"""The CUDA kernels, compiled for the host and run there: see docs/cuda_on_cpu.md."""

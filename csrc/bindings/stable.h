// What the stable ABI's headers of torch 2.11 lack.
#pragma once

#include <torch/csrc/stable/macros.h>

#ifndef STABLE_TORCH_ERROR_CODE_CHECK // its name from torch 2.13 on
#define STABLE_TORCH_ERROR_CODE_CHECK(call) TORCH_ERROR_CODE_CHECK(call)
#endif

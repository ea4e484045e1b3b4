// Choices by measurement, for whoever asks for them: torchconv.autotune.
//
// A problem that is tuned keeps the seconds that each candidate took; which of
// them is the choice follows from those and from what is allowed now (how much
// workspace, whether torch's own kernel is a candidate). Off by default, and
// then a call pays for one atomic load.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/planner.h"

namespace torchconv {

// use: measured choices are taken, and nothing is measured.
enum class Tuning : int { off, use, measure };

struct TuningSettings {
  Tuning mode = Tuning::off;
  int64_t max_workspace = -1; // bytes; negative: no limit
  bool include_torch = false;
};

// The name under which torch's own kernel is timed. It is no row of a table.
constexpr const char* kTorch = "torch";

// Median seconds by candidate; negative for one that cannot do it after all.
using Timings = std::map<std::string, double>;

// Switches it, for all threads.
void set_tuning(const TuningSettings& settings);
TuningSettings tuning();
Tuning tuning_mode();

// What a choice depends on besides the problem: the variant of the kernels
// (static storage: the instruction set's name), threads, and whether only exact
// rows are candidates ("auto-exact").
struct TuningPlace {
  const char* variant;
  int threads;
  bool exact;
};

// A problem as text: what the choice depends on, and nothing else. The model of
// the device and versions are the business of whoever keeps it.
std::string tuning_key(const ConvProblem& p, Pass pass, const TuningPlace& at);

// All that is remembered; what other processes measured is added with add.
std::map<std::string, Timings> tuned();
void add_tuned(const std::string& key, const Timings& timings);
void forget_tuned();

// Told of each problem that was measured, on the thread that measured it. Null:
// nobody. Exceptions do not leave the call.
void on_tuned(std::function<void(const std::string&, const Timings&)> told);

// Whether a row takes the problem, within the workspace that is allowed.
bool tuning_allows(
    const ConvAlgorithm* a,
    const ConvProblem& p,
    Pass pass,
    const TuningPlace& at);

// One way to compute the problem at hand.
struct Contender {
  std::string name;
  std::function<void()> run;
};

// The measured choice for a problem, of those allowed now: a row of the table
// or, with torch = true, torch's own kernel. Neither where tuning is off or
// the problem is unknown: then the planner decides. In mode measure an unknown
// problem is measured: contenders makes what to time; null measures nothing.
struct TunedChoice {
  const ConvAlgorithm* algorithm = nullptr;
  bool torch = false;
};
TunedChoice tuned_choice(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const TuningPlace& at,
    const std::function<std::vector<Contender>()>& contenders);

} // namespace torchconv

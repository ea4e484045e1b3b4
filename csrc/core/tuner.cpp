#include "core/tuner.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace torchconv {
namespace {

// Seconds of a sample at least, and of a measurement at most (once every
// contender has been timed once).
constexpr double kSample = 2e-4;
constexpr double kMeasurement = 0.25;
constexpr int kRounds = 7;
// A contender this many times slower than the best is timed once only.
constexpr double kHopeless = 3;
constexpr double kUnable = -1;
constexpr size_t kMostMemos = 4096;

using Memo = std::array<int64_t, 44>;

struct MemoHash {
  size_t operator()(const Memo& m) const {
    uint64_t h = 1469598103934665603u;
    for (const int64_t v : m) {
      h = (h ^ static_cast<uint64_t>(v)) * 1099511628211u;
      h ^= h >> 29;
    }
    return h;
  }
};

struct State {
  std::mutex mutex; // of all below
  TuningSettings settings;
  std::map<std::string, Timings> known;
  std::unordered_map<Memo, TunedChoice, MemoHash> memos;
  int64_t changes = 0; // of the settings, and of what was forgotten
  std::function<void(const std::string&, const Timings&)> told;
  std::mutex measuring; // one measurement at a time
};

State& state() {
  static State* s = new State; // outlives threads that still compute at exit
  return *s;
}

std::atomic<Tuning>& mode() {
  static std::atomic<Tuning> m{Tuning::off};
  return m;
}

// Strides of dimensions of size 1 mean nothing.
template <typename F>
void each_stride(const ConvProblem& p, const F& f) {
  f(p.x, p.batch, p.in_channels, p.in);
  f(p.w, p.out_channels, p.in_group(), p.kernel);
  f(p.y, p.batch, p.out_channels, p.out);
}

Memo memo_of(const ConvProblem& p, Pass pass, const TuningPlace& at) {
  Memo m{};
  size_t i = 0;
  const auto put = [&](int64_t v) { m[i++] = v; };
  for (const int64_t v : {p.batch, p.in_channels, p.out_channels, p.groups}) {
    put(v);
  }
  for (const int64_t* v :
       {p.in, p.kernel, p.stride, p.dilation, p.low, p.high, p.out}) {
    put(v[0]);
    put(v[1]);
    put(v[2]);
  }
  each_stride(
      p, [&](const Strides& s, int64_t n, int64_t c, const int64_t* size) {
        put(n > 1 ? s.n : 0);
        put(c > 1 ? s.c : 0);
        for (int d = 0; d < 3; ++d) {
          put(size[d] > 1 ? s.s[d] : 0);
        }
      });
  put((static_cast<int64_t>(p.mode) << 16) +
      (static_cast<int64_t>(p.dtype) << 8) + static_cast<int64_t>(pass));
  put(at.threads * 2 + at.exact);
  put(reinterpret_cast<intptr_t>(at.variant));
  return m;
}

double seconds_of(const std::function<void()>& run, int repeats) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (int i = 0; i < repeats; ++i) {
    run();
  }
  return std::chrono::duration<double>(Clock::now() - start).count() / repeats;
}

// Medians of samples in turn; kUnable for a contender that throws.
Timings measure(std::vector<Contender> contenders) {
  Timings found;
  std::vector<std::vector<double>> samples;
  std::vector<Contender> able;
  double best = -1;
  double spent = 0;
  for (Contender& c : contenders) {
    try {
      c.run(); // what only the first call costs
      const double once = seconds_of(c.run, 1);
      best = best < 0 ? once : std::min(best, once);
      spent += once;
      samples.push_back({once});
      able.push_back(std::move(c));
    } catch (const std::exception&) {
      found[c.name] = kUnable;
    }
  }
  const size_t n = able.size();
  std::vector<double> first(n);
  for (size_t i = 0; i < n; ++i) {
    first[i] = samples[i][0];
  }
  for (int round = 0; round < kRounds && spent < kMeasurement; ++round) {
    for (size_t i = 0; i < n; ++i) {
      if (first[i] > kHopeless * best) {
        continue;
      }
      const int repeats =
          1 + static_cast<int>(std::min(kSample / first[i], 100.0));
      const double took = seconds_of(able[i].run, repeats);
      samples[i].push_back(took);
      spent += took * repeats;
    }
  }
  for (size_t i = 0; i < n; ++i) {
    auto& s = samples[i];
    // The first, single call is an estimate only.
    const auto begin = s.begin() + (s.size() > 1 ? 1 : 0);
    const auto middle = begin + (s.end() - begin) / 2;
    std::nth_element(begin, middle, s.end());
    found[able[i].name] = *middle;
  }
  return found;
}

} // namespace

void set_tuning(const TuningSettings& settings) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.settings = settings;
  s.memos.clear();
  ++s.changes;
  mode().store(settings.mode, std::memory_order_relaxed);
}

TuningSettings tuning() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return s.settings;
}

Tuning tuning_mode() {
  return mode().load(std::memory_order_relaxed);
}

std::string tuning_key(const ConvProblem& p, Pass pass, const TuningPlace& at) {
  static const char* const kModes[] = {
      "zeros", "reflect", "replicate", "circular"};
  std::string key = std::string(pass_name(pass)) + " " + dtype_name(p.dtype);
  const auto list = [&](const char* name, const int64_t* v, int n) {
    key += name;
    for (int i = 0; i < n; ++i) {
      key += (i == 0 ? "" : "x") + std::to_string(v[i]);
    }
  };
  list(" n", &p.batch, 1);
  list(" c", &p.in_channels, 1);
  list(" k", &p.out_channels, 1);
  list(" g", &p.groups, 1);
  list(" in", p.in, 3);
  list(" kernel", p.kernel, 3);
  list(" stride", p.stride, 3);
  list(" dilation", p.dilation, 3);
  list(" low", p.low, 3);
  list(" high", p.high, 3);
  key += std::string(" ") + kModes[static_cast<int>(p.mode)];
  each_stride(
      p, [&](const Strides& s, int64_t n, int64_t c, const int64_t* size) {
        int64_t v[5] = {n > 1 ? s.n : 0, c > 1 ? s.c : 0};
        for (int d = 0; d < 3; ++d) {
          v[2 + d] = size[d] > 1 ? s.s[d] : 0;
        }
        list(" at", v, 5);
      });
  key += std::string(" ") + at.variant;
  return key + " threads" + std::to_string(at.threads);
}

std::map<std::string, Timings> tuned() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  return s.known;
}

void add_tuned(const std::string& key, const Timings& timings) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  for (const auto& one : timings) {
    s.known[key][one.first] = one.second;
  }
  s.memos.clear();
}

void forget_tuned() {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.known.clear();
  s.memos.clear();
  ++s.changes;
}

void on_tuned(std::function<void(const std::string&, const Timings&)> told) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mutex);
  s.told = std::move(told);
}

bool tuning_allows(
    const ConvAlgorithm* a,
    const ConvProblem& p,
    Pass pass,
    const TuningPlace& at) {
  const int64_t limit = tuning().max_workspace;
  return (a->exact || !at.exact) && a->refusal(p, pass) == nullptr &&
      (limit < 0 || a->workspace(p, pass, at.threads) <= limit);
}

namespace {

// The best of what was measured and is allowed; whether all that is allowed
// was measured.
TunedChoice best_of(
    const Timings& timings,
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const TuningPlace& at,
    bool include_torch,
    bool* complete) {
  TunedChoice choice;
  double best = -1;
  *complete = true;
  for (const ConvAlgorithm* a : table) {
    if (!tuning_allows(a, p, pass, at)) {
      continue;
    }
    const auto found = timings.find(a->name);
    if (found == timings.end()) {
      *complete = false;
    } else if (found->second >= 0 && (best < 0 || found->second < best)) {
      best = found->second;
      choice.algorithm = a;
    }
  }
  const auto torch = timings.find(kTorch);
  if (include_torch && torch == timings.end()) {
    *complete = false;
  } else if (
      include_torch && torch->second >= 0 &&
      (best < 0 || torch->second < best)) {
    choice = {nullptr, true};
  }
  return choice;
}

} // namespace

TunedChoice tuned_choice(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const TuningPlace& at,
    const std::function<std::vector<Contender>()>& contenders) {
  State& s = state();
  const Memo memo = memo_of(p, pass, at);
  TuningSettings settings;
  int64_t changes = 0;
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    const auto found = s.memos.find(memo);
    if (found != s.memos.end()) {
      return found->second;
    }
    settings = s.settings;
    changes = s.changes;
  }
  if (settings.mode == Tuning::off) {
    return {};
  }
  const std::string key = tuning_key(p, pass, at);
  const auto look = [&](bool* complete) {
    Timings timings;
    {
      const std::lock_guard<std::mutex> lock(s.mutex);
      const auto found = s.known.find(key);
      if (found != s.known.end()) {
        timings = found->second;
      }
    }
    return best_of(
        timings, table, p, pass, at, settings.include_torch, complete);
  };
  bool complete = false;
  TunedChoice choice = look(&complete);
  if (!complete && settings.mode == Tuning::measure && contenders) {
    Timings timings;
    {
      const std::lock_guard<std::mutex> one(s.measuring);
      choice = look(&complete); // another thread may have been here
      if (!complete) {
        timings = measure(contenders());
        add_tuned(key, timings);
        choice = look(&complete);
      }
    }
    std::function<void(const std::string&, const Timings&)> told;
    {
      const std::lock_guard<std::mutex> lock(s.mutex);
      told = s.told;
    }
    if (told && !timings.empty()) {
      told(key, timings);
    }
  }
  if (!complete && settings.mode == Tuning::measure) {
    return choice; // a call will measure it
  }
  const std::lock_guard<std::mutex> lock(s.mutex);
  if (changes != s.changes) {
    return choice; // right for this call, not for those to come
  }
  if (s.memos.size() >= kMostMemos) {
    s.memos.clear();
  }
  s.memos[memo] = choice;
  return choice;
}

} // namespace torchconv

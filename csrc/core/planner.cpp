#include "core/planner.h"

namespace torchconv {
namespace {

std::string names(const std::vector<const ConvAlgorithm*>& table) {
  std::string list = std::string("'") + kAuto + "', '" + kAutoExact + "'";
  for (const ConvAlgorithm* a : table) {
    list += std::string(", '") + a->name + "'";
  }
  return list;
}

// What algorithms are ranked by. The passes that make activations are ranked
// for one sample, so that what a sample gives does not depend on how many
// others are in its batch.
double ranked_cost(const ConvAlgorithm& a, const ConvProblem& p, Pass pass) {
  if (pass == Pass::weight_grad) {
    return a.cost(p, pass);
  }
  ConvProblem sample = p;
  sample.batch = 1;
  return a.cost(sample, pass) * static_cast<double>(p.batch);
}

} // namespace

const ConvAlgorithm* choose_conv(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const std::string& name,
    std::string* error) {
  const bool any = name == kAuto || name == kAutoExact;
  const ConvAlgorithm* best = nullptr;
  double best_cost = 0;
  for (const ConvAlgorithm* a : table) {
    if (!any && name != a->name) {
      continue;
    }
    const char* refusal = a->refusal(p, pass);
    if (!any) {
      if (refusal != nullptr) {
        *error = "algorithm '" + name + "' cannot compute this " +
            pass_name(pass) + ": " + refusal;
        return nullptr;
      }
      return a;
    }
    if (refusal != nullptr || (name == kAutoExact && !a->exact)) {
      continue;
    }
    const double cost = ranked_cost(*a, p, pass);
    if (best == nullptr || cost < best_cost) {
      best = a;
      best_cost = cost;
    }
  }
  if (best == nullptr) {
    *error = any
        ? std::string("no algorithm computes this ") + pass_name(pass)
        : "unknown algorithm '" + name + "': expected one of " + names(table);
  }
  return best;
}

Plan plan_conv(
    const std::vector<const ConvAlgorithm*>& table,
    const ConvProblem& p,
    Pass pass,
    const std::string& name,
    int threads) {
  Plan plan;
  const ConvAlgorithm* chosen = choose_conv(table, p, pass, name, &plan.error);
  for (const ConvAlgorithm* a : table) {
    Candidate c{a, a->refusal(p, pass), 0, 0};
    if (c.refusal == nullptr) {
      c.cost = ranked_cost(*a, p, pass);
      c.workspace = a->workspace(p, pass, threads);
    }
    if (a == chosen) {
      plan.chosen = static_cast<int>(plan.candidates.size());
    }
    plan.candidates.push_back(c);
  }
  return plan;
}

} // namespace torchconv

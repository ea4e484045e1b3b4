// What eager code keeps for its calls, known to operators by a number: numbers
// go through the dispatcher faster than lists and strings.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace torchconv {

// Keeps a T for as long as it lives.
template <typename T>
class Kept {
 public:
  explicit Kept(T value) {
    auto kept = std::make_shared<const T>(std::move(value));
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    id_ = t.next++;
    t.values.emplace(id_, std::move(kept));
  }
  ~Kept() {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    t.values.erase(id_);
  }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

  // No number is given twice.
  int64_t id() const {
    return id_;
  }

  // Null if nothing is kept under this number (any more).
  static std::shared_ptr<const T> find(int64_t id) {
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    const auto found = t.values.find(id);
    return found == t.values.end() ? nullptr : found->second;
  }
  // Puts another value in the place of one that is still kept.
  static void replace(int64_t id, T value) {
    auto kept = std::make_shared<const T>(std::move(value));
    Table& t = table();
    const std::lock_guard<std::mutex> lock(t.mutex);
    const auto found = t.values.find(id);
    if (found != t.values.end()) {
      found->second.swap(kept);
    }
  }

 private:
  struct Table {
    std::mutex mutex;
    std::unordered_map<int64_t, std::shared_ptr<const T>> values;
    int64_t next = 0;
  };
  static Table& table() {
    static Table* t = new Table; // outlives whatever Python still holds at exit
    return *t;
  }

  int64_t id_;
};

} // namespace torchconv

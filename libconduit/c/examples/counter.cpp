// One integer in a raw region: one process counts, others watch.
//
//     g++ -std=c++17 counter.cpp -o counter $(pkg-config --cflags --libs conduit)
//     ./counter count
//     ./counter watch
//     ./counter unlink

#include <conduit.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

using conduit::ShmRegion;
using namespace std::chrono_literals;

static constexpr const char* name = "counter";

/// Memory that processes share without a lock must be atomic. A new region is zeroed: the counter is 0.
using Counter = std::atomic<int>;
static_assert(Counter::is_always_lock_free);

static Counter& counter_in(ShmRegion& region) {
    return *static_cast<Counter*>(region.data());
}

static int count() {
    auto region = ShmRegion::create(name, 4096);
    std::printf("counting in region \"%s\"\n", name);
    std::fflush(stdout);
    for (;;) {
        counter_in(region).fetch_add(1);
        std::this_thread::sleep_for(10ms);
    }
}

static int watch() {
    if (!ShmRegion::wait_until_exists_for(name, 10s)) {
        std::fprintf(stderr, "counter: no region \"%s\" within 10 s; run counter count\n", name);
        return 1;
    }
    auto region = ShmRegion::open(name);
    int last = -1;
    for (int now = counter_in(region); now != last; now = counter_in(region)) {
        std::printf("%d\n", now);
        std::fflush(stdout);
        last = now;
        std::this_thread::sleep_for(500ms);
    }
    std::printf("no process counts any more, the last value is %d\n", last);
    return 0;
}

int main(int argc, char** argv) {
    const std::string what = argc == 2 ? argv[1] : "";
    try {
        if (what == "count") {
            return count();
        }
        if (what == "watch") {
            return watch();
        }
        if (what == "unlink") {
            ShmRegion::unlink(name);
            return 0;
        }
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "counter: %s\n", error.what());
        return 1;
    }
    std::fprintf(stderr, "usage: counter count|watch|unlink\n");
    return 2;
}

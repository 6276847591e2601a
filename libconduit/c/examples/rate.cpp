// Prints every half second how many inertial measurements have come, in one thread that waits for
// messages and for a timer, until SIGTERM or Ctrl-C stops it.
//
//     g++ -std=c++17 rate.cpp -o rate $(pkg-config --cflags --libs conduit)

#include "imu.hpp"

#include <chrono>
#include <cinttypes>
#include <cstdio>

using namespace std::chrono_literals;

static void measure() {
    conduit::SubscriberOptions options;
    options.follow = true;
    auto imu = conduit::Subscriber<Imu>::open(imu_topic, options);
    auto set = conduit::WaitSet::create();
    set.stop(conduit::Stop::on_signals());
    const auto imu_token = set.add(imu);
    const auto tick = set.add_interval(500ms);
    double turned = 0;
    std::size_t messages = 0;
    for (;;) {
        for (const conduit::Event& event : set.wait()) {
            if (event.is_ready(imu_token)) {
                messages += imu.take_batch(64, [&](const auto& measured) { turned += measured->gyro[2]; });
            } else if (event.is_timer(tick)) {
                std::printf("%zu measurements, sum %.3f, %" PRIu64 " periods missed\n", messages, turned, event.missed);
                std::fflush(stdout);
                messages = 0;
            }
        }
    }
}

int main() {
    try {
        measure();
    } catch (const conduit::Stopped&) {
        return 0;
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "rate: %s\n", error.what());
        return 1;
    }
}

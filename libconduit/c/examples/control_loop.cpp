// Acts a thousand times a second on the latest measurements, however often they come, until SIGTERM
// or Ctrl-C stops it.
//
//     g++ -std=c++17 control_loop.cpp -o control_loop $(pkg-config --cflags --libs conduit)

#include "imu.hpp"

#include <chrono>
#include <cinttypes>
#include <cstdio>

using namespace std::chrono_literals;

/// What a robot would do with it.
static void actuate(double command) {
    static volatile double commanded;
    commanded = command;
    static_cast<void>(commanded);
}

static void control() {
    conduit::SubscriberOptions options;
    options.follow = true;
    auto imu = conduit::Subscriber<Imu>::open(imu_topic, options);
    auto set = conduit::WaitSet::create();
    set.stop(conduit::Stop::on_signals());
    set.add_interval(1ms);
    double command = 0;
    try {
        for (;;) {
            static_cast<void>(set.wait());  // until the next period: the timer does not drift
            if (const auto measured = imu.latest_copy()) {
                command = -measured->gyro[0];
            }
            actuate(command);
        }
    } catch (const conduit::Stopped&) {
        std::printf("commanded %.3f, used %" PRIu64 " measurements, skipped %" PRIu64 "\n", command, imu.received(),
                    imu.skipped());
    }
}

int main() {
    try {
        control();
        return 0;
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "control_loop: %s\n", error.what());
        return 1;
    }
}

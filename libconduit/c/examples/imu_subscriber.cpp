// Prints inertial measurements as they come, until their publisher ends.
//
//     g++ -std=c++17 imu_subscriber.cpp -o imu_subscriber $(pkg-config --cflags --libs conduit)

#include "imu.hpp"

#include <cinttypes>
#include <cstdio>

using namespace std::chrono_literals;

static int subscribe() {
    if (!conduit::ShmRegion::wait_until_exists_for(imu_topic, 10s)) {
        std::fprintf(stderr, "imu_subscriber: no topic \"%s\" within 10 s; run imu_publisher\n", imu_topic);
        return 1;
    }
    auto subscriber = conduit::Subscriber<Imu>::open(imu_topic);
    try {
        for (;;) {
            const auto imu = subscriber.wait();
            const auto age_us = std::chrono::duration_cast<std::chrono::microseconds>(imu.age().value_or(0ns)).count();
            std::printf("#%-6" PRIu64 " lost %" PRIu64 " age %4lld us  gyro %6.3f %6.3f %6.3f rad/s  "
                        "acceleration %6.3f %6.3f %6.3f m/s^2\n",
                        imu.sequence(), imu.lost(), static_cast<long long>(age_us), imu->gyro[0], imu->gyro[1],
                        imu->gyro[2], imu->acceleration[0], imu->acceleration[1], imu->acceleration[2]);
            std::fflush(stdout);
        }
    } catch (const conduit::PublisherClosed&) {
        std::printf("received %" PRIu64 ", lost %" PRIu64 "\n", subscriber.received(), subscriber.lost());
        return 0;
    }
}

int main() {
    try {
        return subscribe();
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "imu_subscriber: %s\n", error.what());
        return 1;
    }
}

// Publishes inertial measurements, 100 per second, until it is interrupted.
//
//     g++ -std=c++17 imu_publisher.cpp -o imu_publisher $(pkg-config --cflags --libs conduit)

#include "imu.hpp"

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

static std::atomic<bool> running{true};

/// A body that rocks about its x axis.
static Imu measure(double time_s) {
    const double amplitude = 0.2, rate = 6.283185307179586;
    const double tilt = amplitude * std::sin(rate * time_s);
    return {{amplitude * rate * std::cos(rate * time_s), 0, 0}, {0, 9.81 * std::sin(tilt), 9.81 * std::cos(tilt)}};
}

int main() try {
    std::signal(SIGINT, [](int) { running = false; });
    std::signal(SIGTERM, [](int) { running = false; });
    auto publisher = conduit::Publisher<Imu>::create(imu_topic);
    std::cout << "publishing " << publisher.topic() << std::endl;

    const auto start = std::chrono::steady_clock::now();
    // Deadlines that are multiples of the period keep the rate exact.
    for (auto next = start; running; next += 10ms) {
        std::this_thread::sleep_until(next);
        try {
            auto loan = publisher.loan();
            *loan = measure(std::chrono::duration<double>(next - start).count());
            loan.publish();
        } catch (const conduit::AllSlotsHeld& error) {
            // Subscribers hold every slot. The next measurement replaces this one.
            std::cerr << "imu_publisher: " << error.what() << '\n';
        }
    }
    std::cout << "published " << publisher.published() << std::endl;
} catch (const conduit::Error& error) {
    std::cerr << "imu_publisher: " << error.what() << '\n';
    return 1;
}

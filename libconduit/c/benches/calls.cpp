// The calls of the benchmark `calls` in C++. For each line with the name of a case it prints the nanoseconds of one call.

#include <conduit.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

namespace {

struct Imu {
    double gyro[3];
    double acceleration[3];
};
CONDUIT_TYPE(Imu, "bench/Imu");

constexpr int calls = 200'000;
constexpr int waiting = 1'000;

using Clock = std::chrono::steady_clock;

double per_call(Clock::duration time, int count) {
    return std::chrono::duration<double, std::nano>(time).count() / count;
}

class Bench {
public:
    double send() {
        const auto start = Clock::now();
        for (int i = 0; i < calls; ++i) {
            imu_.gyro[0] = i;
            publisher_.send(imu_);
        }
        return per_call(Clock::now() - start, calls);
    }

    double loan() {
        const auto start = Clock::now();
        for (int i = 0; i < calls; ++i) {
            imu_.gyro[0] = i;
            auto loan = publisher_.loan();
            *loan = imu_;
            loan.publish();
        }
        return per_call(Clock::now() - start, calls);
    }

    double take() {
        auto subscriber = conduit::Subscriber<Imu>::open(publisher_.topic());
        Clock::duration time{};
        for (int i = 0; i < calls; i += waiting) {
            for (int j = 0; j < waiting; ++j) {
                imu_.gyro[0] = j;
                publisher_.send(imu_);
            }
            double sum = 0;
            const auto start = Clock::now();
            for (int j = 0; j < waiting; ++j) {
                sum += subscriber.take()->gyro[0];
            }
            time += Clock::now() - start;
            if (sum != waiting * (waiting - 1) / 2.0) {
                std::abort();
            }
        }
        return per_call(time, calls);
    }

private:
    static conduit::PublisherOptions options() {
        conduit::PublisherOptions options;
        options.slots = 1024;
        options.capacity = sizeof(Imu);
        return options;
    }

    conduit::Publisher<Imu> publisher_ = conduit::Publisher<Imu>::create("bench/cpp", options());
    Imu imu_{};
};

}  // namespace

int main() {
    Bench bench;
    for (std::string name; std::getline(std::cin, name);) {
        const double ns = name == "send" ? bench.send() : name == "loan" ? bench.loan() : bench.take();
        std::cout << ns << std::endl;
    }
}

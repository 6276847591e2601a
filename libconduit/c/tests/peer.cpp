// The C++ side of tests with processes in other languages. Its argument selects what it does.

#include "check.hpp"

#include <chrono>
#include <cstdint>
#include <iostream>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using conduit::Publisher;
using conduit::Subscriber;

namespace robot {

struct Imu {
    std::uint64_t stamp;
    double gyro[3];
    float temperature;
    std::uint32_t status;
};
CONDUIT_TYPE(Imu, "robot/Imu");
static_assert(sizeof(Imu) == 40 && alignof(Imu) == 8);

struct Point {
    float x, y, z;
};
CONDUIT_TYPE(Point, "lidar/Point");

}  // namespace robot

static constexpr int messages = 100;

static robot::Imu imu(int i) {
    return {static_cast<std::uint64_t>(i) * 1'000'000'007, {i + 0.25, i + 0.5, -i + 0.75}, 20.5F, static_cast<std::uint32_t>(i)};
}

static conduit::PublisherOptions roomy() {
    conduit::PublisherOptions options;
    options.slots = 256;
    return options;
}

template <class T>
static void wait_for_subscriber(Publisher<T>& publisher) {
    std::cout << "ready" << std::endl;
    while (publisher.subscribers() == 0) {
        std::this_thread::sleep_for(1ms);
    }
}

/// Receives until the publisher has closed.
template <class T, class Check>
static void receive(Check&& check) {
    CHECK(conduit::ShmRegion::wait_until_exists_for("interop", 30s));
    auto subscriber = Subscriber<T>::open("interop");
    std::cout << "ready" << std::endl;
    int count = 0;
    try {
        for (;; ++count) {
            const auto sample = subscriber.wait();
            CHECK(sample.sequence() == static_cast<std::uint64_t>(count) && sample.lost() == 0);
            check(sample, count);
        }
    } catch (const conduit::PublisherClosed&) {
        std::cout << "received " << count << std::endl;
    }
}

/// Dies of a signal in the middle of everything.
static void doomed() {
    auto publisher = Publisher<robot::Imu>::create("doomed");
    wait_for_subscriber(publisher);
    publisher.send(imu(1));
    auto loan = publisher.loan();
    std::string line;
    std::getline(std::cin, line);
    std::abort();
}

/// Waits for the doomed.
static void mourner() {
    CHECK(conduit::ShmRegion::wait_until_exists_for("doomed", 30s));
    auto subscriber = Subscriber<robot::Imu>::open("doomed");
    CHECK(subscriber.wait()->stamp == 1'000'000'007);
    std::cout << "waiting" << std::endl;
    try {
        static_cast<void>(subscriber.wait());
    } catch (const conduit::PublisherDied& died) {
        const conduit::PublisherGone& gone = died;
        CHECK(gone.code() == conduit::ErrorCode::publisher_died);
        std::cout << "PublisherDied: " << gone.what() << std::endl;
    }
}

int main(int argc, char** argv) {
    CHECK(argc == 2);
    const std::string_view what = argv[1];
    if (what == "publish values") {
        auto publisher = Publisher<robot::Imu>::create("interop", roomy());
        wait_for_subscriber(publisher);
        for (int i = 0; i < messages; i += 2) {
            publisher.send(imu(i));
            auto loan = publisher.loan();
            *loan = imu(i + 1);
            loan.publish();
        }
    } else if (what == "subscribe values") {
        receive<robot::Imu>([](const auto& sample, int i) {
            const robot::Imu expected = imu(i);
            CHECK(std::memcmp(sample.data(), &expected, sizeof expected) == 0);
        });
    } else if (what == "publish slices") {
        auto publisher = Publisher<robot::Point[]>::create("interop", roomy());
        wait_for_subscriber(publisher);
        for (int i = 0; i < messages; ++i) {
            auto loan = publisher.loan(20);
            loan.truncate(static_cast<std::size_t>(i % 10));
            for (auto& point : loan) {
                const auto at = static_cast<float>(&point - loan.begin());
                point = {at, static_cast<float>(i), -1};
            }
            loan.publish();
        }
    } else if (what == "subscribe slices") {
        receive<robot::Point[]>([](const auto& sample, int i) {
            CHECK(sample.size() == static_cast<std::size_t>(i % 10));
            for (std::size_t at = 0; at < sample.size(); ++at) {
                CHECK(sample[at].x == static_cast<float>(at) && sample[at].y == static_cast<float>(i) && sample[at].z == -1);
            }
        });
    } else if (what == "publish bytes") {
        auto publisher = Publisher<std::byte>::create("interop", roomy());
        wait_for_subscriber(publisher);
        for (int i = 0; i < messages; ++i) {
            publisher.send("message " + std::to_string(i));
        }
    } else if (what == "subscribe bytes") {
        receive<std::byte>([](const auto& sample, int i) {
            const std::string expected = "message " + std::to_string(i);
            CHECK(sample.size() == expected.size() && std::memcmp(sample.data(), expected.data(), expected.size()) == 0);
        });
    } else if (what == "publish arrays") {
        auto publisher = Publisher<std::array<double, 3>>::create("interop", roomy());
        wait_for_subscriber(publisher);
        for (int i = 0; i < messages; ++i) {
            publisher.send({i + 0.5, 1.5, -2.5});
        }
    } else if (what == "subscribe arrays") {
        receive<double[3]>(
            [](const auto& sample, int i) { CHECK((*sample)[0] == i + 0.5 && (*sample)[1] == 1.5 && (*sample)[2] == -2.5); });
    } else if (what == "write region") {
        auto region = conduit::ShmRegion::create("interop", 5000);
        std::memset(region.data(), 7, region.size());
    } else if (what == "mismatch") {
        // The type on the Rust side has the same name and another size.
        const auto error = THROWS(conduit::TypeMismatch, Subscriber<robot::Imu>::open("interop"));
        std::cout << error.what() << std::endl;
    } else if (what == "list") {
        std::cout << (conduit::registry_is_reachable() ? "registry" : "no registry") << std::endl;
        const auto listing = conduit::list_topics();
        CHECK(listing.is_from_registry == conduit::registry_is_reachable());
        for (const auto& topic : listing) {
            std::cout << topic.name << ' ' << topic.type << ' ' << topic.subscribers.size() << std::endl;
        }
    } else if (what == "doomed") {
        doomed();
    } else if (what == "mourner") {
        mourner();
    } else {
        CHECK(false);
    }
}

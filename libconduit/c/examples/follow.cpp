// Prints inertial measurements, whenever there is a publisher, and what happens in between, until
// SIGTERM or Ctrl-C stops it.
//
//     g++ -std=c++17 follow.cpp -o follow $(pkg-config --cflags --libs conduit)

#include "imu.hpp"

#include <chrono>
#include <cinttypes>
#include <cstdio>

using namespace std::chrono_literals;
using Event = conduit::TopicEvent<Imu>;

static double seconds(std::chrono::nanoseconds time) {
    return std::chrono::duration<double>(time).count();
}

static void print(const Event& event) {
    switch (event.kind) {
        case Event::Kind::sample:
            std::printf("#%" PRIu64 " gyro %6.3f %6.3f %6.3f rad/s\n", event.sample.sequence(), event.sample->gyro[0],
                        event.sample->gyro[1], event.sample->gyro[2]);
            break;
        case Event::Kind::connected: std::printf("connected to %s (%u)\n", event.program.c_str(), event.pid); break;
        case Event::Kind::lost:
            std::printf("the publisher %s; waiting for the next one\n", event.died ? "died" : "closed the topic");
            if (event.death && event.death->signal) {
                std::printf("it was killed by signal %d\n", *event.death->signal);
            }
            break;
        case Event::Kind::overdue: std::printf("nothing for %.1f s\n", seconds(event.silence)); break;
        case Event::Kind::resumed: std::printf("resumed after %.1f s\n", seconds(event.silence)); break;
    }
    std::fflush(stdout);
}

static void follow() {
    conduit::SubscriberOptions options;
    options.follow = true;
    options.deadline = 200ms;
    options.stop = conduit::Stop::on_signals();
    auto subscriber = conduit::Subscriber<Imu>::open(imu_topic, options);
    while (!options.stop.is_stopped()) {
        try {
            print(subscriber.wait_event());
        } catch (const conduit::Stopped&) {
        } catch (const conduit::TypeMismatch& error) {
            std::fprintf(stderr, "follow: %s\n", error.what());  // it waits for another publisher
        } catch (const conduit::NotFollowed& error) {
            std::fprintf(stderr, "follow: %s\n", error.what());
        }
    }
    std::printf("received %" PRIu64 " from %u publishers, lost %" PRIu64 "\n", subscriber.received(),
                subscriber.epoch(), subscriber.lost());
}

int main() {
    try {
        follow();
        return 0;
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "follow: %s\n", error.what());
        return 1;
    }
}

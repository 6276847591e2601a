// Messages and what else happens to a topic, in order; and copies of slices.

#include "check.hpp"

#include <array>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using conduit::ErrorCode;
using conduit::Publisher;
using conduit::Subscriber;
using conduit::SubscriberOptions;
using Event = conduit::TopicEvent<int>;
using namespace std::chrono_literals;

static Subscriber<int> follow(std::chrono::nanoseconds deadline = {}) {
    SubscriberOptions options;
    options.follow = true;
    options.deadline = deadline;
    return Subscriber<int>::open("ticks", options);
}

/// The next event, which has this kind.
static Event next(Subscriber<int>& subscriber, Event::Kind kind) {
    auto event = subscriber.wait_event_for(60s);
    CHECK(event && event->kind == kind && event->sample.has_value() == (kind == Event::Kind::sample));
    return std::move(*event);
}

static void publishers_come_and_go() {
    auto subscriber = follow();
    CHECK(!subscriber.take_event() && !*subscriber.take_event(std::nothrow));
    CHECK(!subscriber.wait_event_for(1ms) && !*subscriber.wait_event_for(1ms, std::nothrow));
    for (int epoch = 1; epoch <= 3; ++epoch) {
        auto publisher = Publisher<int>::create("ticks");
        publisher.send(epoch);
        const auto connected = next(subscriber, Event::Kind::connected);
        CHECK(connected.pid == static_cast<std::uint32_t>(getpid()) && !connected.program.empty());
        const auto sample = subscriber.wait_event();
        CHECK(sample.kind == Event::Kind::sample && *sample.sample == epoch && sample.program.empty());
        publisher.close();
        const auto lost = subscriber.wait_event(std::nothrow);
        CHECK(lost && lost->kind == Event::Kind::lost && !lost->died && !lost->death);
    }
    subscriber.close();
    THROWS(conduit::InvalidHandle, subscriber.take_event());
    CHECK(subscriber.wait_event(std::nothrow).code() == ErrorCode::invalid_handle);
}

static void a_publisher_dies() {
    auto subscriber = follow();
    const pid_t child = fork();
    if (child == 0) {
        auto publisher = Publisher<int>::create("ticks");
        publisher.send(7);
        pause();
    }
    CHECK(next(subscriber, Event::Kind::connected).pid == static_cast<std::uint32_t>(child));
    CHECK(*next(subscriber, Event::Kind::sample).sample == 7);
    CHECK(kill(child, SIGKILL) == 0);
    while (waitpid(child, nullptr, 0) != child) {
    }
    CHECK(next(subscriber, Event::Kind::lost).died);
    const auto publisher = Publisher<int>::create("ticks");
    next(subscriber, Event::Kind::connected);
}

static void silences() {
    auto subscriber = follow(20ms);
    CHECK(next(subscriber, Event::Kind::overdue).silence >= 20ms);
    auto publisher = Publisher<int>::create("ticks");
    next(subscriber, Event::Kind::connected);
    publisher.send(1);
    CHECK(next(subscriber, Event::Kind::resumed).silence >= 20ms);
    CHECK(*next(subscriber, Event::Kind::sample).sample == 1);
    THROWS(conduit::Overdue, subscriber.wait());
}

static void slices_are_copied() {
    auto publisher = Publisher<int[]>::create("slices");
    auto subscriber = Subscriber<int[]>::open("slices");
    std::array<int, 4> room{};
    CHECK(!subscriber.take_copy(room.data(), room.size()));
    CHECK(!subscriber.wait_copy_for(1ms, room.data(), room.size()));
    THROWS(conduit::NoSample, subscriber.take_copy(room.data(), room.size()).sequence());
    publisher.send(std::array<int, 3>{1, 2, 3});
    const auto three = subscriber.take_copy(room.data(), room.size());
    CHECK(three && three.size() == 3 && three.data() == room.data() && three[2] == 3 && three.sequence() == 0);
    CHECK(three.lost() == 0 && three.age() && three.published_at() && three.end() - three.begin() == 3);
    publisher.send(std::array<int, 4>{4, 5, 6, 7});
    CHECK(subscriber.wait_copy(room.data(), room.size()).size() == 4 && room[3] == 7);
    publisher.send(std::array<int, 5>{});
    THROWS(conduit::MessageTooLarge, subscriber.take_copy(room.data(), room.size()));
    publisher.send(std::array<int, 1>{8});
    publisher.send(std::array<int, 1>{9});
    const auto latest = subscriber.latest_copy(room.data(), room.size(), std::nothrow);
    CHECK(latest && latest->size() == 1 && (*latest)[0] == 9 && subscriber.skipped() == 1);
    publisher.send(std::array<int, 0>{});
    const auto none = subscriber.wait_copy_for(60s, room.data(), room.size(), std::nothrow);
    CHECK(none && *none && none->size() == 0);
    auto bytes = Publisher<std::byte>::create("bytes");
    auto reader = Subscriber<std::byte>::open("bytes");
    bytes.send(std::string("four"));
    std::array<std::byte, 8> buffer{};
    CHECK(reader.take_copy(buffer.data(), buffer.size()).size() == 4 && buffer[0] == std::byte{'f'});
    CHECK(reader.take_copy(nullptr, 8, std::nothrow).code() == ErrorCode::invalid_argument);
}

int main() {
    publishers_come_and_go();
    a_publisher_dies();
    silences();
    slices_are_copied();
}

// Subscribers to all topics that match a pattern.

#include "check.hpp"

#include <poll.h>

using conduit::PatternSubscriber;
using conduit::Publisher;
using conduit::SubscriberOptions;
using conduit::WaitSet;
using namespace std::chrono_literals;

using Kind = conduit::PatternEvent<int>::Kind;

static void messages() {
    auto all = PatternSubscriber<int>::open("tf/**");
    CHECK(all.is_open() && all.pattern() == "tf/**" && !all.take() && !all.wait_for(1ms));
    auto arm = Publisher<int>::create("tf/arm");
    auto base = Publisher<int>::create("tf/base/left");
    auto map = Publisher<int>::create("map");
    POLL_UNTIL(!all.take() && all.sources().size() == 2);
    base.send(1);
    map.send(2);
    arm.send(3);
    const auto first = all.wait();
    CHECK(first && first.topic == "tf/base/left" && *first.sample == 1);
    const auto second = all.wait(std::nothrow);
    CHECK(second && second->topic == "tf/arm" && *second->sample == 3);
    CHECK(!*all.take(std::nothrow) && !*all.wait_for(0ms, std::nothrow) && all.received() == 2);
    const auto sources = all.sources();
    CHECK(sources.size() == 2 && sources[0].topic == "tf/arm" && sources[0].is_connected && sources[0].epoch == 1);
    CHECK(sources[1].received == 1 && sources[1].lost == 0 && !sources[1].refusal);
    CHECK(all.sources(std::nothrow)->size() == 2);
    all.close();
    CHECK(!all);
    THROWS(conduit::InvalidHandle, all.take());
    THROWS(conduit::InvalidHandle, all.received());
    THROWS(conduit::InvalidHandle, all.sources());
}

static void events() {
    auto all = PatternSubscriber<int>::open("e/*");
    CHECK(!all.take_event() && !all.wait_event_for(0ms) && !*all.take_event(std::nothrow));
    for (std::uint32_t epoch = 1; epoch <= 2; ++epoch) {
        auto publisher = Publisher<int>::create("e/numbers");
        const auto connected = all.wait_event();
        CHECK(connected.kind == Kind::connected && connected.topic == "e/numbers" && connected.pid > 1);
        publisher.send(7);
        const auto message = all.wait_event_for(1min);
        CHECK(message && message->kind == Kind::message && *message->sample == 7 && message->epoch == epoch);
        publisher.close();
        const auto lost = all.wait_event();
        CHECK(lost.kind == Kind::lost && !lost.died && !lost.has_death && !lost.signal && !lost.exit_code);
        CHECK(!lost.sample);
    }
    auto other = Publisher<float>::create("e/other");
    const auto refused = *all.wait_event_for(1min, std::nothrow);
    CHECK(refused && refused->kind == Kind::not_followed && refused->topic == "e/other" && !refused->reason.empty());
    CHECK(all.sources().back().refusal);
    SubscriberOptions options;
    options.any_type = true;
    auto bytes = PatternSubscriber<std::byte>::open("**", options);
    other.send(1.5F);
    const auto message = bytes.wait();
    CHECK(message.topic == "e/other" && message.sample.size() == sizeof(float));
}

static void waiting() {
    auto publisher = Publisher<int>::create("w/a");
    auto all = *PatternSubscriber<int>::open("w/*", std::nothrow);
    auto set = WaitSet::create();
    const auto token = set.add(all);
    const int descriptor = all.ready_fd();
    CHECK(descriptor == *all.ready_fd(std::nothrow));
    for (int number = 0; number < 3; ++number) {
        CHECK(!all.take() && set.wait_for(0ms).empty());
        publisher.send(number);
        pollfd waited = {descriptor, POLLIN, 0};
        CHECK(poll(&waited, 1, 60000) == 1);
        const auto found = set.wait();
        CHECK(found.size() == 1 && found[0].is_ready(token));
        CHECK(*all.take().sample == number);
    }
    CHECK(*set.add(all, std::nothrow) != token);
}

int main() {
    messages();
    events();
    waiting();
    THROWS(conduit::InvalidArgument, PatternSubscriber<int>::open("tf//x"));
}

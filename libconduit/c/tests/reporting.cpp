// Asks a registry, which the test plays, and watches it.

#include "check.hpp"

#include <poll.h>

using conduit::ErrorCode;
using conduit::Registry;
using conduit::Reported;
using conduit::Watch;
using conduit::WatchOptions;
using namespace std::chrono_literals;

static_assert(std::is_nothrow_move_constructible_v<Registry> && !std::is_copy_constructible_v<Registry>);
static_assert(std::is_nothrow_move_constructible_v<Watch> && !std::is_copy_constructible_v<Watch>);

static void is_the_death(const conduit::RegistryEvent& event) {
    CHECK(event.kind == Reported::died && event.topic == "camera/front" && event.program == "driver" && event.pid == 42);
    CHECK(event.time == std::chrono::system_clock::time_point(1700000000123ms) && event.uid == 9 && event.death);
    CHECK(!event.death->exit_code && event.death->signal == 11 && event.death->core_dumped);
    CHECK(event.death->last_sequence == 77U && event.death->last_message_age == 88ns);
    CHECK(event.death->subscribers.size() == 1 && event.death->subscribers[0].program == "planner");
}

static void asked() {
    auto registry = Registry::open();
    const auto status = registry.status();
    CHECK(status.version == "1" && status.pid == 17 && status.topics == 5 && status.is_supervised);
    CHECK(registry.status(std::nothrow)->untracked == 8);
    CHECK(registry.describe("imu").subscribers.at(0).pid == 43);
    CHECK(THROWS(conduit::NotFound, registry.describe("nothing")).code() == ErrorCode::not_found);
    CHECK(registry.describe("nothing", std::nothrow).code() == ErrorCode::not_found);
    CHECK(registry.reap("imu") && *registry.reap("imu", std::nothrow));
    registry.unlink("imu", true);
    CHECK(registry.unlink("imu", std::nothrow, true));
    THROWS(conduit::TopicIsLive, registry.unlink("imu"));
    const auto deaths = registry.deaths();
    CHECK(deaths.size() == 2 && registry.deaths(std::nothrow)->size() == 2 && !deaths[0].death);
    is_the_death(deaths[1]);
    registry.close();
    THROWS(conduit::InvalidHandle, registry.status());
    THROWS(conduit::InvalidHandle, registry.deaths());
    conduit::Domain nobody;
    nobody.socket = "";
    THROWS(conduit::NoRegistry, Registry::open(nobody));
    CHECK(Registry::open(std::nothrow, nobody).code() == ErrorCode::no_registry);
}

static void watched() {
    WatchOptions options;
    options.pattern = std::string("camera//raw");
    THROWS(conduit::InvalidArgument, Watch::open(options));
    options.kinds = {Reported::unknown};
    CHECK(Watch::open(std::nothrow, options).code() == ErrorCode::invalid_argument);
    options.pattern = std::string("camera/**");
    options.kinds = {Reported::present, Reported::died};
    auto watch = Watch::open(options);
    CHECK(watch.wait().kind == Reported::present);
    is_the_death(*watch.wait_for(60s));
    auto stop = conduit::Stop::create();
    watch.stop(stop);
    stop.stop();
    THROWS(conduit::Stopped, watch.wait());
    watch.stop(conduit::Stop::create());
    CHECK(watch.stop(conduit::Stop(), std::nothrow).code() == conduit::ErrorCode::invalid_handle);
    CHECK(!watch.wait_for(0s) && !watch.take() && !*watch.take(std::nothrow) && !*watch.wait_for(0s, std::nothrow));
    std::optional<conduit::RegistryEvent> event;
    while (!event) {
        pollfd waiting{watch.descriptor(), POLLIN, 0};
        CHECK(poll(&waiting, 1, 60'000) == 1);
        event = watch.take();
    }
    CHECK(event->kind == Reported::unknown && event->topic == "camera/front");
    THROWS(conduit::RegistryError, watch.wait());
    THROWS(conduit::IoError, watch.wait());
    CHECK(watch.take(std::nothrow).code() == ErrorCode::io);
    watch.close();
    THROWS(conduit::InvalidHandle, watch.take());
    THROWS(conduit::InvalidHandle, watch.wait_for(1s));
    THROWS(conduit::InvalidHandle, watch.descriptor());
}

int main() {
    asked();
    watched();
}

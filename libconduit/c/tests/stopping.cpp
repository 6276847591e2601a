// Calls that wait are stopped: from another thread and by a signal.

#include "check.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using conduit::Publisher;
using conduit::Stop;
using conduit::Stopped;
using conduit::Subscriber;
using conduit::SubscriberOptions;
using conduit::WaitSet;
using namespace std::chrono_literals;

static_assert(std::is_copy_constructible_v<Stop> && std::is_nothrow_move_constructible_v<Stop>);

static Subscriber<int> open(const Stop& stop) {
    SubscriberOptions options;
    options.stop = stop;
    return Subscriber<int>::open("ticks", options);
}

static std::thread stop_soon(const Stop& stop) {
    return std::thread([stop] {
        std::this_thread::sleep_for(5ms);
        stop.stop();
    });
}

static void each_call_that_waits() {
    auto publisher = Publisher<int>::create("ticks");
    for (int way = 0; way < 8; ++way) {
        const auto stop = Stop::create();
        auto subscriber = open(stop);
        auto set = WaitSet::create();
        set.stop(stop);
        const auto wait = [&] {
            const auto ignore = [](const auto&) {};
            switch (way) {
                case 0: static_cast<void>(subscriber.wait()); break;
                case 1: static_cast<void>(subscriber.wait_for(60s)); break;
                case 2: static_cast<void>(subscriber.wait_copy()); break;
                case 3: static_cast<void>(subscriber.wait_copy_for(60s)); break;
                case 4: subscriber.wait_with(ignore); break;
                case 5: subscriber.wait_batch(8, ignore); break;
                case 6: static_cast<void>(set.wait()); break;
                default: static_cast<void>(set.wait_for(60s)); break;
            }
        };
        auto stopping = stop_soon(stop);
        THROWS(Stopped, wait());
        stopping.join();
        CHECK(stop.is_stopped());
        publisher.send(way);
        THROWS(Stopped, wait());
        CHECK(*subscriber.take() == way && subscriber.lost() == 0);
        CHECK(subscriber.wait(std::nothrow).code() == conduit::ErrorCode::stopped);
    }
}

static Stop on_signal;

static void a_handler_stops() {
    auto publisher = Publisher<int>::create("ticks");
    on_signal = Stop::create();
    auto subscriber = open(on_signal);
    struct sigaction action = {};
    action.sa_handler = [](int) { on_signal.stop(); };
    CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child == 0) {
        usleep(5000);
        _exit(kill(parent, SIGUSR1));
    }
    THROWS(Stopped, subscriber.wait());
    while (waitpid(child, nullptr, 0) != child) {
    }
}

static void signals_stop() {
    auto publisher = Publisher<int>::create("ticks");
    const auto stop = Stop::on_signals();
    auto subscriber = open(stop);
    CHECK(raise(SIGINT) == 0 && stop.is_stopped());
    THROWS(Stopped, subscriber.wait());
    THROWS(Stopped, conduit::ShmRegion::wait_until_exists("never", stop));
    CHECK(conduit::ShmRegion::wait_until_exists("never", stop, std::nothrow).code() == conduit::ErrorCode::stopped);
    THROWS(conduit::InvalidArgument, Stop::on_signals({SIGKILL}));
    CHECK(Stop::on_signals(std::nothrow, {SIGSEGV}).code() == conduit::ErrorCode::invalid_argument);
    const auto later = Stop::create(std::nothrow);
    CHECK(later && !later->is_stopped());
    auto stopping = stop_soon(*later);
    THROWS(Stopped, conduit::ShmRegion::wait_until_exists("never", *later));
    stopping.join();
}

static void one_that_is_not_open() {
    const Stop none;
    CHECK(!none && !none.is_open() && !none.is_stopped());
    THROWS(conduit::InvalidHandle, none.stop());
    auto set = WaitSet::create();
    THROWS(conduit::InvalidHandle, set.stop(none));
    CHECK(set.stop(none, std::nothrow).code() == conduit::ErrorCode::invalid_handle);
    auto publisher = Publisher<int>::create("ticks");
    auto subscriber = open(none);
    CHECK(!subscriber.wait_for(1ms));
}

int main() {
    each_call_that_waits();
    a_handler_stops();
    signals_stop();
    one_that_is_not_open();
}

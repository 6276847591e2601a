// Wait sets with timers and wakers, and descriptors for other event loops.

#include "check.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using conduit::ErrorCode;
using conduit::Event;
using conduit::Publisher;
using conduit::Subscriber;
using conduit::Token;
using conduit::WaitSet;
using conduit::Waker;
using namespace std::chrono_literals;

template <class T>
constexpr bool is_move_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                              !std::is_copy_constructible_v<T> && std::is_nothrow_default_constructible_v<T>;
static_assert(is_move_only<WaitSet> && is_move_only<Waker>);

static void topics() {
    auto numbers = Publisher<int>::create("numbers");
    auto texts = Publisher<std::byte>::create("texts");
    auto number = Subscriber<int>::open("numbers");
    auto text = Subscriber<std::byte>::open("texts");
    auto set = WaitSet::create();
    THROWS(conduit::NothingToWaitFor, set.wait());
    CHECK(set.wait_for(1ms).empty() && set.wait_until(std::chrono::steady_clock::now()).empty());
    const Token number_token = set.add(number);
    const Token text_token = *set.add(text, std::nothrow);
    CHECK(number_token != text_token && number_token != Token{} && set.wait_for(0ms).empty());
    numbers.send(5);
    texts.send(std::string("x"));
    const auto both = set.wait();
    CHECK(both.size() == 2 && both[0].is_ready(number_token) != both[1].is_ready(number_token));
    // It follows a subscriber that is moved.
    auto moved = std::move(number);
    CHECK(*moved.take() == 5);
    const auto one = set.wait(std::nothrow);
    CHECK(one && one->size() == 1 && (*one)[0].is_ready(text_token) && !(*one)[0].is_timer(text_token));
    CHECK(text.take() && set.wait_for(0s).empty());
    numbers.close();
    for (const Event& event : set.wait_for(60s)) {
        CHECK(event.is_ready(number_token) && event.missed == 0);
    }
    THROWS(conduit::PublisherClosed, moved.take());
    CHECK(set.remove(number_token) && !set.remove(number_token));
    text.close();
    CHECK(set.wait_until(std::chrono::system_clock::now() + 1ms, std::nothrow)->empty());
    CHECK(set.wait(std::nothrow).code() == ErrorCode::nothing_to_wait_for);
}

static void timers_and_wakers() {
    auto set = WaitSet::create();
    const Token once = set.add_timer(2ms);
    CHECK(set.wait()[0].is_timer(once) && !set.remove(once));
    const Token tick = set.add_interval(1ms);
    std::this_thread::sleep_for(10ms);
    const auto ticks = set.wait();
    CHECK(ticks.size() == 1 && ticks[0].is_timer(tick) && ticks[0].missed >= 8 && set.remove(tick));
    THROWS(conduit::InvalidArgument, set.add_interval(0s));
    CHECK(set.add_interval(-1s, std::nothrow).code() == ErrorCode::invalid_argument);
    CHECK(set.add_timer(std::chrono::hours::max(), std::nothrow));
    // More than fit: none is lost.
    for (int i = 0; i < 100; ++i) {
        static_cast<void>(set.add_timer(0s));
    }
    CHECK(set.wait().size() == 64 && set.wait().size() == 36 && set.wait_for(0s).empty());

    auto waker = set.waker();
    std::thread other([&] {
        std::this_thread::sleep_for(5ms);
        waker.wake();
    });
    const auto woken = set.wait();
    CHECK(woken.size() == 1 && woken[0].is_woken() && woken[0].token == Token{});
    other.join();
    auto another = set.waker(std::nothrow);
    CHECK(another && another->wake(std::nothrow) && set.wait()[0].is_woken());
    set.close();
    waker.wake();
}

static bool is_readable(int descriptor, int timeout_ms = 0) {
    pollfd waiting{descriptor, POLLIN, 0};
    return poll(&waiting, 1, timeout_ms) == 1;
}

static void descriptors() {
    auto publisher = Publisher<int>::create("fd");
    auto subscriber = Subscriber<int>::open("fd");
    const int descriptor = subscriber.ready_fd();
    CHECK(descriptor == *subscriber.ready_fd(std::nothrow) && !is_readable(descriptor));
    publisher.send(1);
    publisher.send(2);
    CHECK(is_readable(descriptor, 60'000) && *subscriber.take() == 1);
    CHECK(is_readable(descriptor) && subscriber.take_with([](const auto& value) { CHECK(*value == 2); }));
    CHECK(!is_readable(descriptor));
    publisher.send_batch(std::array<int, 3>{3, 4, 5});
    CHECK(is_readable(descriptor, 60'000) && subscriber.take_batch(9, [](const auto&) {}) == 3);
    CHECK(!is_readable(descriptor));
    publisher.close();
    CHECK(is_readable(descriptor, 60'000));
    THROWS(conduit::PublisherClosed, subscriber.take());
}

static void misuse() {
    WaitSet set;
    Waker waker;
    Subscriber<int> subscriber;
    CHECK(!set && !set.is_open() && !waker && !waker.is_open());
    THROWS(conduit::InvalidHandle, set.wait());
    THROWS(conduit::InvalidHandle, set.wait_for(1s));
    THROWS(conduit::InvalidHandle, set.add(subscriber));
    THROWS(conduit::InvalidHandle, set.add_timer(1s));
    THROWS(conduit::InvalidHandle, set.add_interval(1s));
    THROWS(conduit::InvalidHandle, set.waker());
    THROWS(conduit::InvalidHandle, waker.wake());
    THROWS(conduit::InvalidHandle, subscriber.ready_fd());
    CHECK(!set.remove(Token{1}) && subscriber.ready_fd(std::nothrow).code() == ErrorCode::invalid_handle);
    set.close();
    set = WaitSet::create();
    THROWS(conduit::InvalidHandle, set.add(subscriber));
    auto moved = std::move(set);
    CHECK(!set && moved && moved.wait_for(0s).empty());
    const auto nothrow = WaitSet::create(std::nothrow);
    CHECK(nothrow && nothrow->is_open());
}

static void a_killed_publisher() {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    if (child == 0) {
        auto publisher = Publisher<int>::create("killed");
        CHECK(write(ends[1], "x", 1) == 1);
        pause();
    }
    char ready;
    CHECK(read(ends[0], &ready, 1) == 1);
    auto subscriber = Subscriber<int>::open("killed");
    auto polling = Subscriber<int>::open("killed");
    auto set = WaitSet::create();
    const Token token = set.add(subscriber);
    const int descriptor = polling.ready_fd();
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    CHECK(set.wait()[0].is_ready(token) && is_readable(descriptor, 60'000));
    THROWS(conduit::PublisherDied, subscriber.take());
    THROWS(conduit::PublisherDied, polling.take());
    Publisher<int>::create("killed").close();
}

int main() {
    topics();
    timers_and_wakers();
    descriptors();
    misuse();
    a_killed_publisher();
}

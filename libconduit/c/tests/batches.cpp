// Many messages in one call, and messages that are lent to a function.

#include "check.hpp"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using conduit::Borrowed;
using conduit::ErrorCode;
using conduit::Publisher;
using conduit::PublisherOptions;
using conduit::Subscriber;
using conduit::SubscriberOptions;
using namespace std::chrono_literals;

static_assert(!std::is_copy_constructible_v<Borrowed<int>> && !std::is_move_constructible_v<Borrowed<int>>);

static void values() {
    PublisherOptions options;
    options.slots = 64;
    auto publisher = Publisher<std::uint64_t>::create("values", options);
    auto subscriber = Subscriber<std::uint64_t>::open("values");
    std::uint64_t sum = 0;
    const auto add = [&](const Borrowed<std::uint64_t>& value) { sum += *value; };
    CHECK(!subscriber.take_with(add) && subscriber.take_batch(9, add) == 0);
    CHECK(!subscriber.wait_with_for(1ms, add) && subscriber.wait_batch_for(1ms, 9, add) == 0);

    const std::vector<std::uint64_t> ten = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    CHECK(publisher.send_batch(ten) == 10 && publisher.send_batch(ten.data(), 3) == 3);
    CHECK(publisher.send_batch(std::array<std::uint64_t, 2>{11, 12}) == 2 && publisher.send_batch(nullptr, 0) == 0);
    CHECK(*publisher.send_batch(ten, std::nothrow) == 10 && *publisher.send_batch(ten.data(), 1, std::nothrow) == 1);
    CHECK(publisher.published() == 26);
    CHECK(subscriber.take_with([&](const auto& value) {
        const auto age = value.age();
        CHECK(*value == 1 && value.sequence() == 0 && value.lost() == 0 && value.size() == 1 && value[0] == 1);
        CHECK(value.size_bytes() == 8 && age >= 0ns && value.published_at() <= std::chrono::steady_clock::now());
    }));
    CHECK(subscriber.take_batch(9, add) == 9 && sum == 54);
    CHECK(*subscriber.take_with(add, std::nothrow) && *subscriber.wait_with_for(1s, add, std::nothrow));
    subscriber.wait_with(add);
    CHECK(subscriber.wait_with(add, std::nothrow) && subscriber.wait_with_for(std::chrono::hours::max(), add));
    CHECK(sum == 54 + 1 + 2 + 3 + 11 + 12);
    CHECK(subscriber.wait_batch(2, add) == 2 && *subscriber.wait_batch(2, add, std::nothrow) == 2);
    CHECK(*subscriber.take_batch(2, add, std::nothrow) == 2);
    CHECK(*subscriber.wait_batch_for(1s, SIZE_MAX, add, std::nothrow) == 5 && sum == 83 + 55 + 1);
    CHECK(!*subscriber.take_with(add, std::nothrow) && *subscriber.take_batch(1, add, std::nothrow) == 0);
    CHECK(!*subscriber.wait_with_for(1ms, add, std::nothrow));
    CHECK(*subscriber.wait_batch_for(1ms, 1, add, std::nothrow) == 0);
#if defined(__cpp_lib_span)
    CHECK(publisher.send_batch(std::span(ten)) == 10);
    CHECK(subscriber.take_batch(SIZE_MAX, [](const auto& value) { CHECK(value.span().size() == 1); }) == 10);
#endif
}

static void slices() {
    PublisherOptions options;
    options.slots = 256;
    auto publisher = Publisher<std::byte>::create("texts", options);
    auto subscriber = Subscriber<std::byte>::open("texts");
    std::string heard;
    const auto hear = [&](const Borrowed<std::byte>& text) {
        heard.append(reinterpret_cast<const char*>(text.data()), text.size()).append(",");
    };
    CHECK(publisher.send_batch(std::vector<std::string>{"one", "", "three"}) == 3);
    CHECK(publisher.send_batch(std::array<std::string_view, 1>{"four"}) == 1);
    CHECK(publisher.send_batch(std::vector<std::string>{}) == 0);
    CHECK(subscriber.take_batch(SIZE_MAX, hear) == 4 && heard == "one,,three,four,");
    // More than one chunk, and one that does not fit.
    std::vector<std::string> many(200, "x");
    CHECK(publisher.send_batch(many) == 200 && subscriber.take_batch(SIZE_MAX, hear) == 200);
    many[150] = std::string(publisher.capacity() + 1, 'x');
    CHECK(publisher.send_batch(many) == 150 && *publisher.send_batch(many, std::nothrow) == 150);
    many[0] = many[150];
    THROWS(conduit::MessageTooLarge, publisher.send_batch(many));
    CHECK(publisher.send_batch(many, std::nothrow).code() == ErrorCode::message_too_large);
    CHECK(publisher.published() == 504);

    auto points = Publisher<float[]>::create("points");
    auto reader = Subscriber<float[]>::open("points");
    CHECK(points.send_batch(std::vector<std::vector<float>>{{1, 2}, {3}}) == 2);
    std::size_t count = 0;
    float sum = 0;
    reader.take_batch(2, [&](const auto& slice) {
        count += slice.size();
        for (const float element : slice) {
            sum += element;
        }
    });
    CHECK(count == 3 && sum == 6);
}

struct Thrown {};

/// Runs `action`, which throws what a callable threw.
template <class Action>
static void throws_thrown(Action&& action) {
    try {
        action();
    } catch (const Thrown&) {
        return;
    }
    CHECK(false && "it threw nothing");
}

static void exceptions_pass() {
    PublisherOptions options;
    options.slots = 2;
    auto publisher = Publisher<int>::create("throwing", options);
    auto subscriber = Subscriber<int>::open("throwing");
    int calls = 0;
    const auto read = [&](const Borrowed<int>&) {
        ++calls;
        throw Thrown();
    };
    const auto send = [&] { CHECK(publisher.send_batch(std::array<int, 1>{1}) == 1); };
    // More than there are slots: none stays held.
    for (int i = 0; i < 4; ++i) {
        send();
        throws_thrown([&] { subscriber.take_with(read); });
        send();
        throws_thrown([&] { subscriber.wait_with(read); });
        send();
        throws_thrown([&] { static_cast<void>(subscriber.wait_with_for(1s, read, std::nothrow)); });
        send();
        throws_thrown([&] { static_cast<void>(subscriber.take_batch(5, read)); });
        send();
        throws_thrown([&] { static_cast<void>(subscriber.wait_batch(5, read, std::nothrow)); });
    }
    CHECK(calls == 20 && subscriber.received() == 20 && subscriber.lost() == 0);
}

static void misuse() {
    Publisher<int> publisher;
    Subscriber<int> subscriber;
    const auto read = [](const Borrowed<int>&) { CHECK(false && "nothing to read"); };
    THROWS(conduit::InvalidHandle, publisher.send_batch(std::array<int, 1>{1}));
    THROWS(conduit::InvalidHandle, publisher.send_batch(nullptr, 1));
    THROWS(conduit::InvalidHandle, Publisher<std::byte>().send_batch(std::array<std::string, 1>{}));
    THROWS(conduit::InvalidHandle, subscriber.take_with(read));
    THROWS(conduit::InvalidHandle, subscriber.wait_with(read));
    THROWS(conduit::InvalidHandle, subscriber.wait_with_for(1s, read));
    THROWS(conduit::InvalidHandle, subscriber.take_batch(1, read));
    THROWS(conduit::InvalidHandle, subscriber.wait_batch(1, read));
    THROWS(conduit::InvalidHandle, subscriber.wait_batch_for(1s, 1, read));
    CHECK(subscriber.take_with(read, std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(subscriber.take_batch(1, read, std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(publisher.send_batch(nullptr, 1, std::nothrow).code() == ErrorCode::invalid_handle);

    publisher = Publisher<int>::create("misuse");
    subscriber = Subscriber<int>::open("misuse");
    THROWS(conduit::InvalidArgument, publisher.send_batch(nullptr, 1));
    auto loan = publisher.loan();
    THROWS(conduit::LoanOut, publisher.send_batch(std::array<int, 1>{1}));
    loan.discard();
    publisher.send(1);
    CHECK(subscriber.take_with([&](const auto&) {
        CHECK(THROWS(conduit::Busy, subscriber.take()).code() == ErrorCode::busy);
        THROWS(conduit::Busy, subscriber.topic());
        CHECK(subscriber.take_with(read, std::nothrow).code() == ErrorCode::busy);
        publisher.send(2);
    }));
    CHECK(*subscriber.take() == 2);
    publisher.close();
    THROWS(conduit::PublisherClosed, subscriber.wait_batch(9, read));
    CHECK(subscriber.wait_with(read, std::nothrow).code() == ErrorCode::publisher_closed);
}

static void a_killed_publisher() {
    int ends[2];
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    if (child == 0) {
        auto publisher = Publisher<int>::create("killed");
        CHECK(write(ends[1], "x", 1) == 1);
        POLL_UNTIL(publisher.subscribers() == 1);
        publisher.send_batch(std::array<int, 3>{1, 2, 3});
        pause();
    }
    char ready;
    CHECK(read(ends[0], &ready, 1) == 1);
    auto subscriber = Subscriber<int>::open("killed");
    int sum = 0;
    const auto add = [&](const auto& value) { sum += *value; };
    subscriber.wait_with(add);
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    while (sum < 6) {
        subscriber.wait_batch(1, add);
    }
    THROWS(conduit::PublisherDied, subscriber.wait_batch(1, add));
    THROWS(conduit::PublisherDied, subscriber.wait_with(add));
    CHECK(sum == 6);
    Publisher<int>::create("killed").close();
}

static void copies() {
    auto publisher = Publisher<double>::create("copies");
    auto subscriber = Subscriber<double>::open("copies");
    CHECK(!subscriber.take_copy() && !subscriber.latest() && !subscriber.latest_copy() && !subscriber.wait_copy_for(1ms));
    CHECK(!*subscriber.take_copy(std::nothrow) && !*subscriber.latest(std::nothrow) && !*subscriber.wait_copy_for(0s, std::nothrow));
    publisher.send_batch(std::array<double, 4>{0.5, 1.5, 2.5, 3.5});
    const auto first = subscriber.take_copy();
    CHECK(first && *first == 0.5 && first.sequence() == 0 && first.lost() == 0 && first.age() >= 0ns && first.published_at());
    CHECK(*subscriber.wait_copy() == 1.5 && **subscriber.wait_copy(std::nothrow) == 2.5);
    CHECK(*subscriber.wait_copy_for(60s) == 3.5);
    publisher.send_batch(std::vector<double>(100, 7.5));
    const auto newest = subscriber.latest_copy();
    CHECK(*newest == 7.5 && newest.sequence() == 103 && newest.lost() == 0);
    CHECK(subscriber.skipped() == 99 && subscriber.lost() == 0 && subscriber.received() == 5);
    publisher.send_batch(std::array<double, 2>{1, 2});
    CHECK(*subscriber.latest() == 2 && !*subscriber.latest_copy(std::nothrow) && subscriber.skipped() == 100);
    const conduit::Copied<double> none;
    THROWS(conduit::NoSample, *none);
    THROWS(conduit::NoSample, none.operator->());
    THROWS(conduit::NoSample, none.sequence());
    THROWS(conduit::NoSample, none.lost());
    THROWS(conduit::NoSample, none.age());
    publisher.close();
    THROWS(conduit::PublisherClosed, subscriber.wait_copy());
    THROWS(conduit::PublisherClosed, subscriber.wait_copy_for(60s));
    subscriber.close();
    THROWS(conduit::InvalidHandle, subscriber.take_copy());
    THROWS(conduit::InvalidHandle, subscriber.latest());
    THROWS(conduit::InvalidHandle, subscriber.latest_copy());
    THROWS(conduit::InvalidHandle, subscriber.skipped());
    CHECK(subscriber.wait_copy(std::nothrow).code() == ErrorCode::invalid_handle);
}

static void options() {
    PublisherOptions options;
    options.max_subscribers = 2000;
    CHECK(contains(THROWS(conduit::InvalidSlots, Publisher<int>::create("options", options)).what(), "2000"));
    options.max_subscribers = 61;
    options.prefault = false;
    auto publisher = Publisher<int>::create("options", options);
    publisher.send_batch(std::array<int, 5>{0, 1, 2, 3, 4});
    SubscriberOptions reading;
    reading.prefault = false;
    reading.start = conduit::Start::last;
    reading.last = 2;
    CHECK(*Subscriber<int>::open("options", reading).take() == 3);
    reading.last = 99;
    CHECK(*Subscriber<int>::open("options", reading).take() == 0);

    PublisherOptions large;
    large.capacity = 1 << 20;
    large.slots = 8;
    large.retain = 4;
    auto frames = Publisher<std::byte>::create("frames", large);
    for (int i = 0; i < 20; ++i) {
        frames.send(std::string_view("frame"));
    }
    reading.last = 4;
    CHECK(Subscriber<std::byte>::open("frames", reading).take().sequence() == 16);
}

int main() {
    values();
    slices();
    exceptions_pass();
    misuse();
    a_killed_publisher();
    copies();
    options();
}

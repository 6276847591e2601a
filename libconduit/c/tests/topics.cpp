// Types, publishers, subscribers, loans and samples, in one process.

#include "check.hpp"

#include <cstdint>
#include <string_view>
#include <thread>
#include <vector>

using conduit::ErrorCode;
using conduit::Loan;
using conduit::Publisher;
using conduit::PublisherOptions;
using conduit::Sample;
using conduit::Subscriber;
using conduit::SubscriberOptions;
using namespace std::chrono_literals;

namespace robot {

struct Imu {
    std::uint64_t stamp;
    double gyro[3];
    float temperature;
    std::uint32_t status;
};
CONDUIT_TYPE(Imu, "robot/Imu");

enum class Mode : std::uint8_t { idle, busy };
CONDUIT_TYPE(Mode, "robot/Mode");

struct alignas(64) Aligned {
    char bytes[64];
};
CONDUIT_TYPE(Aligned, "robot/Aligned");

}  // namespace robot

namespace theirs {
struct Point {
    float x, y, z;
};
}  // namespace theirs

template <>
struct conduit::TypeName<theirs::Point> {
    static constexpr const char* value = "lidar/Point";
};

struct Global {
    int x;
};
CONDUIT_TYPE(Global, "Global");

// ------------------------------------------------------------------------- checked at compile time

template <class T>
constexpr bool is_named(const char* name) {
    const char* found = conduit::TypeName<T>::value;
    for (; *found != '\0' && *found == *name; ++found, ++name) {
    }
    return *found == *name;
}

static_assert(is_named<bool>("bool") && is_named<char>("u8") && is_named<std::byte>("u8"));
static_assert(is_named<unsigned char>("u8") && is_named<signed char>("i8"));
static_assert(is_named<std::int16_t>("i16") && is_named<std::uint16_t>("u16"));
static_assert(is_named<std::int32_t>("i32") && is_named<std::uint32_t>("u32"));
static_assert(is_named<std::int64_t>("i64") && is_named<std::uint64_t>("u64"));
static_assert(is_named<long>("i64") && is_named<unsigned long long>("u64"));
static_assert(is_named<float>("f32") && is_named<double>("f64"));
static_assert(is_named<double[3]>("f64") && is_named<float[2][3]>("f32"));
static_assert(is_named<std::array<double, 3>>("f64") && is_named<std::array<robot::Imu, 2>[4]>("robot/Imu"));
static_assert(is_named<robot::Imu>("robot/Imu") && is_named<robot::Mode>("robot/Mode"));
static_assert(is_named<theirs::Point>("lidar/Point") && is_named<Global>("Global"));

static_assert(conduit::detail::is_type_name("a") && !conduit::detail::is_type_name("") && !conduit::detail::is_type_name("a\n"));
static_assert(conduit::detail::is_type_name("0123456789012345678901234567890123456789012345678901234567890123"));
static_assert(!conduit::detail::is_type_name("01234567890123456789012345678901234567890123456789012345678901234"));

template <class T>
constexpr bool is_move_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                              !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
                              std::is_nothrow_default_constructible_v<T>;

static_assert(is_move_only<conduit::ShmRegion> && is_move_only<Publisher<int>> && is_move_only<Subscriber<int>>);
static_assert(is_move_only<Loan<int>> && is_move_only<Sample<int>> && is_move_only<Loan<int[]>>);

// ------------------------------------------------------------------------------------------ values

static void values() {
    auto publisher = Publisher<robot::Imu>::create("imu");
    CHECK(publisher && publisher.is_open());
    CHECK(publisher.topic() == "imu" && publisher.slots() == 16 && publisher.capacity() == 192);
    CHECK(publisher.published() == 0 && publisher.subscribers() == 0);

    auto subscriber = Subscriber<robot::Imu>::open("imu");
    CHECK(publisher.subscribers() == 1 && subscriber.topic() == "imu" && subscriber.is_zero_copy());
    const auto type = subscriber.message_type();
    CHECK(type.name == "robot/Imu" && type.kind == conduit::Kind::value && type.size == 40 && type.align == 8);

    CHECK(!subscriber.take());
    const auto before = std::chrono::steady_clock::now();
    publisher.send({1, {1, 2, 3}, 20.5F, 7});
    auto sample = subscriber.wait();
    CHECK(sample && sample->stamp == 1 && (*sample).gyro[2] == 3 && sample->temperature == 20.5F && sample->status == 7);
    CHECK(sample.size() == 1 && sample.size_bytes() == sizeof(robot::Imu) && sample.data() == &*sample);
    CHECK(sample.sequence() == 0 && sample.lost() == 0);
    CHECK(sample.published_at() >= before && sample.published_at() <= std::chrono::steady_clock::now());
    CHECK(sample.age() >= 0ns && sample.age() < 60s);
    CHECK(reinterpret_cast<std::uintptr_t>(sample.data()) % 64 == 0);

    auto loan = publisher.loan();
    CHECK(loan && loan.size() == 1 && loan.size_bytes() == sizeof(robot::Imu));
    CHECK(reinterpret_cast<std::uintptr_t>(loan.data()) % 64 == 0);
    *loan = robot::Imu{};
    loan->stamp = 2;
    loan.publish();
    CHECK(!loan && loan.size() == 0);
    CHECK(sample->stamp == 1);
    CHECK(subscriber.take()->stamp == 2);

    {
        auto unused = publisher.loan();
        unused->stamp = 99;
    }
    auto discarded = publisher.loan();
    discarded->stamp = 99;
    discarded.discard();
    CHECK(!discarded && !subscriber.take());
    CHECK(publisher.published() == 2 && subscriber.received() == 2 && subscriber.lost() == 0);

    // All slots are overwritten but the one that is held.
    for (std::uint64_t i = 3; i <= 40; ++i) {
        publisher.send({i, {}, 0, 0});
    }
    CHECK(sample->stamp == 1);
    const auto next = subscriber.take();
    CHECK(next && next.lost() == next.sequence() - 2 && next.lost() > 0 && subscriber.lost() == next.lost());
}

/// The one subscriber of a topic, as its region describes it.
static conduit::SubscriberInfo reader(const char* topic) {
    return conduit::list_topics().find(topic)->subscribers.at(0);
}

static void times() {
    auto publisher = Publisher<int>::create("times");
    auto subscriber = Subscriber<int>::open("times");
    const auto begun = std::chrono::steady_clock::now();
    CHECK(!subscriber.wait_for(20ms));
    CHECK(std::chrono::steady_clock::now() - begun >= 20ms);
    CHECK(!subscriber.wait_for(-1s) && !subscriber.wait_for(0s) && !subscriber.wait_for(std::chrono::duration<float>(1e-3F)));
    CHECK(!subscriber.wait_until(begun) && !subscriber.wait_until(std::chrono::system_clock::now() + 5ms));
    CHECK(!subscriber.wait_until(std::chrono::steady_clock::time_point::min()));
    publisher.send(5);
    CHECK(*subscriber.wait_for(std::chrono::hours::max()) == 5);
    publisher.send(6);
    CHECK(*subscriber.wait_until(std::chrono::steady_clock::time_point::max()) == 6);

    std::thread sender([&] {
        POLL_UNTIL(reader("times").is_asleep);
        publisher.send(7);
    });
    CHECK(*subscriber.wait() == 7);
    sender.join();

    PublisherOptions options;
    options.time_stamps = false;
    auto timeless = Publisher<int>::create("timeless", options);
    auto reader = Subscriber<int>::open("timeless");
    timeless.send(1);
    const auto sample = reader.take();
    CHECK(!sample.published_at() && !sample.age());
}

static void slices() {
    PublisherOptions options;
    options.slots = 8;
    options.capacity = 1000 * sizeof(theirs::Point);
    auto publisher = Publisher<theirs::Point[]>::create("points", options);
    auto subscriber = Subscriber<theirs::Point[]>::open("points");
    CHECK(publisher.slots() == 8 && publisher.capacity() >= 12'000);
    const auto type = subscriber.message_type();
    CHECK(type.name == "lidar/Point" && type.kind == conduit::Kind::slice && type.size == 12 && type.align == 4);

    const std::vector<theirs::Point> points = {{1, 2, 3}, {4, 5, 6}};
    publisher.send(points);
    publisher.send(points.data(), 1);
    publisher.send(nullptr, 0);
    CHECK(publisher.send(points, std::nothrow) && publisher.send(points.data(), 2, std::nothrow));
    auto sample = subscriber.take();
    CHECK(sample.size() == 2 && sample.size_bytes() == 24 && sample[1].z == 6);
    CHECK(subscriber.take().size() == 1);
    const auto empty = subscriber.take();
    CHECK(empty && empty.size() == 0 && empty.begin() == empty.end());

    auto loan = publisher.loan(1000);
    float next = 0;
    for (auto& point : loan) {
        point = {next, next, next};
        next += 1;
    }
    CHECK(loan.size() == 1000);
    const auto too_long = THROWS(conduit::MessageTooLarge, loan.truncate(1001));
    CHECK(too_long.code() == ErrorCode::message_too_large);
    CHECK(loan.truncate(SIZE_MAX, std::nothrow).code() == ErrorCode::message_too_large && loan.size() == 1000);
    loan.truncate(10);
    CHECK(loan.size() == 10);
    loan.publish();
    THROWS(conduit::MessageTooLarge, publisher.loan(2000));
    THROWS(conduit::MessageTooLarge, publisher.loan(SIZE_MAX / 2));
    CHECK(publisher.loan(SIZE_MAX, std::nothrow).code() == ErrorCode::message_too_large);
    CHECK(subscriber.take().size() == 2 && subscriber.take().size() == 2);
    sample = subscriber.take();
    float sum = 0;
    for (const auto& point : sample) {
        sum += point.x;
    }
    CHECK(sample.size() == 10 && sum == 45);
#if defined(__cpp_lib_span)
    CHECK(sample.span().size() == 10 && sample.span()[9].x == 9);
    publisher.send(std::span(points));
    auto lent = publisher.loan(1);
    lent.span()[0] = {};
#endif
}

static void bytes() {
    auto publisher = Publisher<std::byte>::create("bytes");
    auto subscriber = Subscriber<std::byte>::open("bytes");
    const auto type = subscriber.message_type();
    CHECK(type.name == "u8" && type.kind == conduit::Kind::slice && type.size == 1 && type.align == 1);
    publisher.send(std::string_view("ready"));
    const auto sample = subscriber.take();
    CHECK(sample.size() == 5 && std::memcmp(sample.data(), "ready", 5) == 0 && sample[4] == std::byte{'y'});
    publisher.send(std::vector<std::uint8_t>{1, 2, 3});
    publisher.send(std::string());
    CHECK(subscriber.take()[2] == std::byte{3} && subscriber.take().size() == 0);
    auto loan = publisher.loan(3);
    std::memcpy(loan.data(), "abc", 3);
    loan.publish();
    // The same type by another name.
    auto another = Subscriber<unsigned char[]>::open("bytes");
    publisher.send(std::string_view("x"));
    CHECK(another.take()[0] == 'x' && subscriber.take().size() == 3);
}

static void spinning() {
    auto publisher = Publisher<int>::create("spinning");
    SubscriberOptions options;
    options.spin = std::chrono::nanoseconds::max();
    auto subscriber = Subscriber<int>::open("spinning", options);
    std::thread sender([&] {
        for (std::uint64_t i = 0; i < 3; ++i) {
            // It polls and does not sleep, also long after it has received the message before.
            POLL_UNTIL(reader("spinning").received == i);
            for (int look = 0; look < 5; ++look) {
                CHECK(!reader("spinning").is_asleep);
                std::this_thread::sleep_for(1ms);
            }
            publisher.send(static_cast<int>(i));
        }
    });
    CHECK(*subscriber.wait() == 0 && *subscriber.wait_for(60s) == 1 && *subscriber.wait() == 2);
    CHECK(!subscriber.wait_for(5ms));
    sender.join();
}

static void spinning_adaptively() {
    auto publisher = Publisher<int>::create("adaptive");
    SubscriberOptions options;
    options.spin = std::chrono::nanoseconds::max();
    options.adaptive_spin = true;
    auto subscriber = Subscriber<int>::open("adaptive", options);
    std::thread sender([&] {
        for (int i = 0; i < 3; ++i) {
            // A slow topic: it sleeps, although `spin` alone would not let it.
            POLL_UNTIL(reader("adaptive").is_asleep);
            publisher.send(i);
        }
    });
    CHECK(*subscriber.wait() == 0 && *subscriber.wait_for(60s) == 1 && *subscriber.wait() == 2);
    sender.join();
}

static void arrays_and_others() {
    auto publisher = Publisher<std::array<double, 3>>::create("arrays");
    auto subscriber = Subscriber<double[3]>::open("arrays");
    publisher.send({1, 2, 3});
    const auto sample = subscriber.take();
    CHECK((*sample)[2] == 3 && subscriber.message_type().size == 24 && subscriber.message_type().name == "f64");
    const auto mismatch = THROWS(conduit::TypeMismatch, Subscriber<double[4]>::open("arrays"));
    CHECK(mismatch.code() == ErrorCode::type_mismatch && contains(mismatch.what(), "[f64; 3] (24 bytes"));
    THROWS(conduit::TypeMismatch, Subscriber<double[]>::open("arrays"));
    THROWS(conduit::TypeMismatch, Subscriber<std::byte>::open("arrays"));

    SubscriberOptions any;
    any.any_type = true;
    CHECK(Subscriber<std::byte>::open("arrays", any));
    THROWS(conduit::TypeMismatch, Subscriber<float>::open("arrays", any));

    auto modes = Publisher<robot::Mode>::create("modes");
    auto mode = Subscriber<robot::Mode>::open("modes");
    modes.send(robot::Mode::busy);
    CHECK(*mode.take() == robot::Mode::busy);
    auto aligned = Publisher<robot::Aligned>::create("aligned");
    CHECK(Subscriber<robot::Aligned>::open("aligned").message_type().align == 64);
    // A message larger than the usual slots.
    auto large = Publisher<std::array<float, 10'000>>::create("large");
    CHECK(large.capacity() >= 40'000);
}

static void starts_and_copies() {
    auto publisher = Publisher<int>::create("starts");
    for (int i = 0; i < 5; ++i) {
        publisher.send(i);
    }
    SubscriberOptions options;
    options.start = conduit::Start::oldest;
    auto oldest = Subscriber<int>::open("starts", options);
    CHECK(*oldest.take() == 0);
    options.start = conduit::Start::latest;
    options.copy_samples = true;
    auto latest = Subscriber<int>::open("starts", options);
    CHECK(!latest.is_zero_copy());
    auto sample = latest.take();
    CHECK(*sample == 4 && sample.sequence() == 4);
    CHECK(!latest.take());
}

static void results() {
    auto created = Publisher<int>::create("results", std::nothrow);
    CHECK(created && created.has_value() && created.code() == ErrorCode::ok);
    auto publisher = std::move(*created);
    auto opened = Subscriber<int>::open("results", std::nothrow);
    auto subscriber = std::move(opened).value();
    auto none = subscriber.take(std::nothrow);
    CHECK(none && !*none);
    CHECK(publisher.send(1, std::nothrow));
    auto loan = publisher.loan(std::nothrow);
    **loan = 2;
    CHECK(publisher.send(3, std::nothrow).code() == ErrorCode::loan_out);
    CHECK(publisher.subscribers(std::nothrow).code() == ErrorCode::loan_out);
    CHECK(loan->publish(std::nothrow));
    CHECK(*publisher.subscribers(std::nothrow) == 1);
    CHECK(*subscriber.wait(std::nothrow).value() == 1);
    CHECK(*subscriber.wait_for(1s, std::nothrow).value() == 2);
    const auto late = subscriber.wait_for(1ms, std::nothrow);
    CHECK(late && !late.value());
    CHECK(!subscriber.wait_until(std::chrono::steady_clock::now(), std::nothrow).value());

    auto second = Publisher<int>::create("results", std::nothrow);
    CHECK(!second && !second.has_value() && second.code() == ErrorCode::already_published);
    CHECK(contains(second.error().message, "results") && !second->is_open());
    const auto thrown = THROWS(conduit::AlreadyPublished, second.value());
    CHECK(thrown.what() == second.error().message && thrown.code() == second.code());
    THROWS(conduit::AlreadyPublished, Publisher<int>::create("results"));

    publisher.close();
    const auto gone = subscriber.wait(std::nothrow);
    CHECK(gone.code() == ErrorCode::publisher_closed && contains(gone.error().message, "closed"));
    THROWS(conduit::PublisherClosed, subscriber.wait());
    THROWS(conduit::PublisherClosed, subscriber.take());
    THROWS(conduit::PublisherClosed, subscriber.wait_for(1s));
    CHECK(Subscriber<int>::open("results", std::nothrow).code() == ErrorCode::not_found);
}

static void errors_of_every_kind_have_their_class() {
    try {
        static_cast<void>(Subscriber<int>::open("nothing"));
        CHECK(false);
    } catch (const std::runtime_error& error) {
        CHECK(contains(error.what(), "\"nothing\" does not exist"));
    }
    THROWS(conduit::NotFound, Subscriber<int>::open("nothing"));
    CHECK(contains(THROWS(conduit::InvalidName, Publisher<int>::create("no spaces")).what(), "' '"));
    THROWS(conduit::InvalidName, Publisher<int>::create(std::string("a\0b", 3)));
    THROWS(conduit::InvalidName, Publisher<int>::create(""));
    PublisherOptions options;
    options.slots = 1;
    THROWS(conduit::InvalidSlots, Publisher<int>::create("slots", options));
    options.slots = 2;
    auto publisher = Publisher<int>::create("slots", options);
    publisher.send(0);
    conduit::SubscriberOptions share;
    share.start = conduit::Start::latest;
    auto fair = Subscriber<int>::open("slots", share);
    auto only = fair.take();
    publisher.send(0);
    CHECK(THROWS(conduit::TooManyHeld, fair.take()).code() == ErrorCode::too_many_held);
    only.release();
    CHECK(*fair.take() == 0);
    share.start = conduit::Start::next;
    share.max_held = 2;
    auto subscriber = Subscriber<int>::open("slots", share);
    publisher.send(1);
    auto first = subscriber.take();
    publisher.send(2);
    auto second = subscriber.take();
    CHECK(THROWS(conduit::AllSlotsHeld, publisher.loan()).code() == ErrorCode::all_slots_held);
    CHECK(publisher.send(1, std::nothrow).code() == ErrorCode::all_slots_held);
    first.release();
    publisher.send(3);
    CHECK(*second == 2 && !first);
    options.domain.shm_dir = "/nowhere/at/all";
    const auto io = THROWS(conduit::IoError, Publisher<int>::create("io", options));
    CHECK(io.system_errno() == 2 && io.code() == ErrorCode::io);
    CHECK(std::string(conduit::to_string(ErrorCode::not_found)) == "does not exist");
    CHECK(conduit::version() == std::to_string(CONDUIT_VERSION_MAJOR) + "." + std::to_string(CONDUIT_VERSION_MINOR) + "." +
                                    std::to_string(CONDUIT_VERSION_PATCH));
    // A code of a later version.
    const auto unknown = THROWS(conduit::Error, conduit::detail::raise({static_cast<ErrorCode>(9999), 0, "later"}));
    CHECK(static_cast<int>(unknown.code()) == 9999);
}

static void following() {
    SubscriberOptions options;
    options.follow = true;
    auto subscriber = Subscriber<int>::open("followed", options);
    CHECK(subscriber.epoch() == 0 && !subscriber.is_connected() && !subscriber.take());
    for (std::uint32_t epoch = 1; epoch <= 2; ++epoch) {
        auto publisher = Publisher<int>::create("followed");
        publisher.send(7);
        CHECK(*subscriber.wait() == 7 && subscriber.epoch() == epoch && subscriber.is_connected());
    }
    auto other = Publisher<float>::create("followed");
    THROWS(conduit::TypeMismatch, subscriber.wait());
    CHECK(!subscriber.wait_for(1ms));
}

static void deadlines() {
    SubscriberOptions options;
    options.follow = true;
    options.deadline = 20ms;
    auto subscriber = Subscriber<int>::open("silent", options);
    CHECK(contains(THROWS(conduit::Overdue, subscriber.wait()).what(), "no message on topic \"silent\" for "));
    CHECK(!subscriber.wait_for(40ms));
    conduit::PublisherOptions promised;
    promised.deadline = 1s;
    auto publisher = Publisher<int>::create("silent", promised);
    publisher.send(7);
    CHECK(*subscriber.wait() == 7);
    CHECK(subscriber.wait_for(60s, std::nothrow).code() == ErrorCode::overdue);
    CHECK(!subscriber.take());
    CHECK(conduit::list_topics().find("silent")->deadline == 1s);
    options.deadline = std::chrono::nanoseconds::max();
    CHECK(!Subscriber<int>::open("silent", options).wait_for(1ms));
}

#if __cplusplus >= 202002L
static void designated_options() {
    auto publisher = Publisher<int>::create("designated", {.slots = 4, .mode = 0600});
    CHECK(publisher.slots() == 4);
    auto subscriber = Subscriber<int>::open("designated", {.start = conduit::Start::oldest});
}
#endif

int main() {
    values();
    times();
    slices();
    bytes();
    spinning();
    spinning_adaptively();
    arrays_and_others();
    starts_and_copies();
    following();
    deadlines();
    results();
    errors_of_every_kind_have_their_class();
#if __cplusplus >= 202002L
    designated_options();
#endif
}

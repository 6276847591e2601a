// Misuse is reported and changes nothing: use after move and close, at the wrong time, in a forked
// child. Exceptions of callbacks, and listings.

#include "check.hpp"

#include <optional>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

using conduit::ErrorCode;
using conduit::InvalidHandle;
using conduit::Loan;
using conduit::NoLoan;
using conduit::NoSample;
using conduit::Publisher;
using conduit::Sample;
using conduit::ShmRegion;
using conduit::Subscriber;
using namespace std::chrono_literals;

/// Everything that can be asked of a publisher that is not open.
static void is_refused(Publisher<int>& publisher) {
    CHECK(!publisher && !publisher.is_open());
    CHECK(contains(THROWS(InvalidHandle, publisher.send(1)).what(), "not open"));
    THROWS(InvalidHandle, publisher.loan());
    THROWS(InvalidHandle, publisher.subscribers());
    THROWS(InvalidHandle, publisher.published());
    THROWS(InvalidHandle, publisher.capacity());
    THROWS(InvalidHandle, publisher.slots());
    THROWS(InvalidHandle, publisher.topic());
    CHECK(publisher.send(1, std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(publisher.loan(std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(publisher.subscribers(std::nothrow).code() == ErrorCode::invalid_handle);
    publisher.close();
}

static void is_refused(Subscriber<int>& subscriber) {
    CHECK(!subscriber && !subscriber.is_open());
    THROWS(InvalidHandle, subscriber.wait());
    THROWS(InvalidHandle, subscriber.take());
    THROWS(InvalidHandle, subscriber.wait_for(1s));
    THROWS(InvalidHandle, subscriber.wait_until(std::chrono::steady_clock::now()));
    THROWS(InvalidHandle, subscriber.received());
    THROWS(InvalidHandle, subscriber.lost());
    THROWS(InvalidHandle, subscriber.is_zero_copy());
    THROWS(InvalidHandle, subscriber.topic());
    THROWS(InvalidHandle, subscriber.message_type());
    CHECK(subscriber.wait(std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(subscriber.take(std::nothrow).code() == ErrorCode::invalid_handle);
    CHECK(subscriber.wait_for(1s, std::nothrow).code() == ErrorCode::invalid_handle);
    subscriber.close();
}

static void is_refused(ShmRegion& region) {
    CHECK(!region && !region.is_open());
    THROWS(InvalidHandle, region.data());
    THROWS(InvalidHandle, static_cast<const ShmRegion&>(region).data());
    THROWS(InvalidHandle, region.size());
    THROWS(InvalidHandle, region.name());
    region.close();
}

static void is_refused(Loan<int>& loan) {
    CHECK(!loan && loan.size() == 0 && loan.size_bytes() == 0);
    CHECK(THROWS(NoLoan, *loan).code() == ErrorCode::no_loan);
    THROWS(NoLoan, loan.operator->());
    THROWS(NoLoan, loan.data());
    THROWS(NoLoan, loan.begin());
    THROWS(NoLoan, loan[0]);
    THROWS(NoLoan, loan.publish());
    CHECK(loan.publish(std::nothrow).code() == ErrorCode::no_loan);
    loan.discard();
}

static void is_refused(Sample<int>& sample) {
    CHECK(!sample && !sample.has_value() && sample.size() == 0 && sample.size_bytes() == 0);
    CHECK(THROWS(NoSample, *sample).code() == ErrorCode::no_sample);
    THROWS(NoSample, sample.operator->());
    THROWS(NoSample, sample.data());
    THROWS(NoSample, sample[0]);
    THROWS(NoSample, sample.sequence());
    THROWS(NoSample, sample.lost());
    THROWS(NoSample, sample.age());
    THROWS(NoSample, sample.published_at());
    sample.release();
}

/// Self-assignment that no compiler sees.
template <class T>
static T& same(T& object) {
    return object;
}

static void moved_and_closed() {
    Publisher<int> publisher;
    is_refused(publisher);
    publisher = Publisher<int>::create("moved");
    auto publisher2 = std::move(publisher);
    is_refused(publisher);
    publisher2 = std::move(same(publisher2));
    CHECK(publisher2.topic() == "moved");

    Subscriber<int> subscriber;
    is_refused(subscriber);
    conduit::SubscriberOptions reading;
    reading.max_held = 9;
    subscriber = Subscriber<int>::open("moved", reading);
    auto subscriber2 = std::move(subscriber);
    is_refused(subscriber);

    Loan<int> loan;
    is_refused(loan);
    loan = publisher2.loan();
    *loan = 1;
    auto loan2 = std::move(loan);
    is_refused(loan);
    loan2 = std::move(same(loan2));
    CHECK(*loan2 == 1);
    // Assigned to, a loan is given back first.
    loan2 = Loan<int>();
    is_refused(loan2);
    loan2 = publisher2.loan();
    *loan2 = 2;
    // The loan follows its publisher.
    publisher = std::move(publisher2);
    auto publisher3 = std::move(publisher);
    loan = std::move(loan2);
    THROWS(conduit::LoanOut, publisher3.loan());
    THROWS(conduit::LoanOut, publisher3.send(3));
    loan.publish();
    is_refused(loan);

    Sample<int> sample;
    is_refused(sample);
    sample = subscriber2.wait();
    auto sample2 = std::move(sample);
    is_refused(sample);
    sample2 = std::move(same(sample2));
    CHECK(*sample2 == 2);
    std::vector<Sample<int>> samples;
    for (int i = 0; i < 8; ++i) {
        publisher3.send(i);
        samples.push_back(subscriber2.take());
    }
    CHECK(*samples[0] == 0 && *samples[7] == 7);

    // Samples outlive their subscriber and publisher, and can be released on any thread.
    subscriber2.close();
    is_refused(subscriber2);
    publisher3.close();
    is_refused(publisher3);
    CHECK(*sample2 == 2 && *samples[3] == 3);
    std::thread([held = std::move(samples)]() mutable { held.clear(); }).join();
    sample2.release();
    is_refused(sample2);
}

static void a_loan_ends_with_its_publisher() {
    Loan<int> loan;
    {
        auto publisher = Publisher<int>::create("brief");
        loan = publisher.loan();
        *loan = 1;
    }
    is_refused(loan);
    CHECK(!ShmRegion::exists("brief"));
    auto publisher = Publisher<int>::create("brief");
    loan = publisher.loan();
    publisher = Publisher<int>::create("brief2");
    is_refused(loan);
    CHECK(publisher.topic() == "brief2");
    publisher.send(1);
    auto lent = publisher.loan();
    publisher.close();
    is_refused(lent);
    // Much is made and closed: no loan and no sample of old is taken for a new one.
    for (int i = 0; i < 200; ++i) {
        auto other = Publisher<int>::create("other");
        auto others = other.loan();
        is_refused(lent);
        *others = i;
        others.publish();
    }
}

static void regions_moved_and_closed() {
    ShmRegion region;
    is_refused(region);
    region = ShmRegion::create("region", 100);
    void* data = region.data();
    auto region2 = std::move(region);
    is_refused(region);
    CHECK(region2.data() == data && region2.size() == 100 && region2.name() == "region");
    region2 = std::move(same(region2));
    CHECK(region2.data() == data);
    region2.close();
    is_refused(region2);
    ShmRegion::unlink("region");
}

struct OfTheUser {
    int number;
};

static void exceptions_of_a_callback_are_thrown_by_the_call() {
    int asked = 0;
    const auto throws = [&]() -> bool {
        if (++asked == 2) {
            throw OfTheUser{7};
        }
        return true;
    };
    try {
        ShmRegion::wait_until_exists_while("never", throws);
        CHECK(false);
    } catch (const OfTheUser& thrown) {
        CHECK(thrown.number == 7 && asked == 2);
    }
    asked = 0;
    try {
        static_cast<void>(ShmRegion::wait_until_exists_while("never", throws, std::nothrow));
        CHECK(false);
    } catch (const OfTheUser& thrown) {
        CHECK(thrown.number == 7);
    }
    // The exception does not affect later calls.
    CHECK(!ShmRegion::wait_until_exists_while("never", [] { return false; }));
    CHECK(!*ShmRegion::wait_until_exists_while("never", [] { return false; }, std::nothrow));
    // An empty function throws std::bad_function_call.
    bool empty = false;
    try {
        ShmRegion::wait_until_exists_while("never", std::function<bool()>());
    } catch (const std::bad_function_call&) {
        empty = true;
    }
    CHECK(empty);
}

static void objects_throw_in_a_forked_child() {
    auto publisher = Publisher<int>::create("forked");
    auto subscriber = Subscriber<int>::open("forked");
    auto region = ShmRegion::create("forked-region", 100);
    publisher.send(1);
    auto sample = std::make_optional(subscriber.take());
    auto loan = publisher.loan();
    const pid_t child = fork();
    if (child == 0) {
        CHECK(THROWS(conduit::Forked, publisher.send(2)).code() == ErrorCode::forked);
        THROWS(conduit::Forked, publisher.published());
        THROWS(conduit::Forked, publisher.topic());
        THROWS(conduit::Forked, subscriber.wait());
        THROWS(conduit::Forked, subscriber.received());
        THROWS(conduit::Forked, subscriber.message_type());
        THROWS(conduit::Forked, region.name());
        THROWS(conduit::Forked, loan.publish());
        sample.reset();
        publisher.close();
        subscriber.close();
        region.close();
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    *loan = 2;
    loan.publish();
    CHECK(**sample == 1 && *subscriber.wait() == 2 && region.name() == "forked-region");
    ShmRegion::unlink("forked-region");
}

static void topics_and_regions_are_listed() {
    CHECK(conduit::list_topics().empty());
    CHECK(!conduit::registry_is_reachable());
    CHECK(!*conduit::registry_is_reachable(std::nothrow));
    auto publisher = Publisher<double[3]>::create("listed/topic");
    auto subscriber = Subscriber<double[3]>::open("listed/topic");
    auto region = ShmRegion::create("listed/region", 5000);
    const double message[3] = {};
    publisher.send(message);
    const auto sample = subscriber.wait();
    const auto listing = conduit::list_topics();
    CHECK(!listing.is_from_registry && listing.size() == 2 && listing.find("nothing") == nullptr);
    const auto* topic = listing.find("listed/topic");
    CHECK(topic != nullptr && topic->type == "f64" && !topic->is_raw && topic->state == conduit::State::live);
    CHECK(topic->slots == 16 && topic->slot_size == 384 && topic->published == 1 && topic->last_message_age >= 0ns);
    CHECK(topic->publisher_pid == static_cast<std::uint32_t>(getpid()) && !topic->publisher_program.empty());
    CHECK(contains(topic->path, "conduit_listed.topic") && topic->reason.empty());
    CHECK(topic->subscribers.size() == 1);
    const auto& reader = topic->subscribers[0];
    CHECK(reader.pid == topic->publisher_pid && reader.received == 1 && reader.lost == 0 && reader.held == 1);
    CHECK(!reader.is_asleep && !reader.program.empty());
    const auto* raw = listing.find("listed/region");
    CHECK(raw != nullptr && raw->is_raw && raw->size == 5000 && raw->type.empty() && !raw->last_message_age);
    std::size_t count = 0;
    for (const auto& one : *conduit::list_topics(std::nothrow)) {
        count += one.name.empty() ? 0 : 1;
    }
    CHECK(count == 2);
    conduit::Domain nowhere;
    nowhere.shm_dir = "/nowhere/at/all";
    CHECK(THROWS(conduit::IoError, conduit::list_topics(nowhere)).system_errno() == 2);
    CHECK(conduit::list_topics(std::nothrow, nowhere).code() == ErrorCode::io);
    ShmRegion::unlink("listed/region");
}

int main() {
    moved_and_closed();
    a_loan_ends_with_its_publisher();
    regions_moved_and_closed();
    exceptions_of_a_callback_are_thrown_by_the_call();
    objects_throw_in_a_forked_child();
    topics_and_regions_are_listed();
}

// SPDX-License-Identifier: MIT OR Apache-2.0
// Publishers. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_PUBLISHER
#define CONDUIT_HPP_PUBLISHER

#include "loan.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <type_traits>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace conduit {

/**
 * The one writer of a topic. `T` is the type of its values; `T[]` is for slices of them, and
 * std::byte for raw bytes.
 *
 *     auto imu = conduit::Publisher<Imu>::create("imu");
 *     imu.send(Imu{...});
 *
 *     auto scans = conduit::Publisher<Point[]>::create("lidar", {.capacity = 100'000 * sizeof(Point)});  // C++20
 *     auto loan = scans.loan(100'000);
 *     for (Point& point : loan) point = ...;
 *     loan.publish();
 *
 *     auto log = conduit::Publisher<std::byte>::create("log");
 *     log.send(std::string_view("ready"));
 *
 * Publishing never blocks, does not allocate unless it fails, and makes no system call unless a
 * subscriber is asleep. One thread at a time.
 */
template <class T>
class Publisher {
    using Type = detail::MessageType<T>;

public:
    /// The type of the values, or of the elements of the slices.
    using value_type = typename Type::Element;

    /// An object that is not open.
    Publisher() noexcept = default;

    /**
     * Creates a topic. A topic that a dead publisher left behind is taken over.
     *
     * @throws InvalidName, NotAllowed, InvalidSlots, MessageTooLarge (the type does not fit into a slot),
     *         NoSpace, NoMemory, UnsuitableFileSystem, AlreadyPublished, AlreadyExists (a raw region has the
     *         name), ForeignFile, NotRemovable, IoError, InvalidArgument
     */
    [[nodiscard]] static Publisher create(const std::string& name, const PublisherOptions& options = {}) {
        Publisher publisher;
        detail::check(publisher.core_.create(name, Type::get(), options));
        return publisher;
    }
    static Result<Publisher> create(const std::string& name, std::nothrow_t,
                                    const PublisherOptions& options = {}) noexcept {
        return detail::Access::result<Publisher>(
            [&](Publisher& publisher) { return publisher.core_.create(name, Type::get(), options); });
    }

    /**
     * Publishes a copy of a value.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, TopicRemoved, TopicUnlinked (once)
     */
    void send(const value_type& message) {
        static_assert(!Type::is_slice, "send a slice by its elements: send(data, count), or send(vector)");
        detail::check(conduit_publisher_send(core_.handle(), std::addressof(message), sizeof(value_type)));
    }
    Result<void> send(const value_type& message, std::nothrow_t) noexcept {
        static_assert(!Type::is_slice, "send a slice by its elements: send(data, count), or send(vector)");
        return detail::Access::result(
            [&] { return conduit_publisher_send(core_.handle(), std::addressof(message), sizeof(value_type)); });
    }

    /**
     * Publishes a copy of a slice of `count` elements.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, MessageTooLarge, TopicRemoved, TopicUnlinked
     *         (once), InvalidArgument (NULL)
     */
    void send(const value_type* elements, std::size_t count) {
        static_assert(Type::is_slice, "a value has no count: this publisher is for single values");
        detail::check(conduit_publisher_send(core_.handle(), elements, Type::bytes(count)));
    }
    Result<void> send(const value_type* elements, std::size_t count, std::nothrow_t) noexcept {
        static_assert(Type::is_slice, "a value has no count: this publisher is for single values");
        return detail::Access::result(
            [&] { return conduit_publisher_send(core_.handle(), elements, Type::bytes(count)); });
    }

    /// Publishes a copy of the elements of a std::vector, std::array, std::span or similar; for raw bytes
    /// also of characters, as in std::string_view. Throws the same.
    template <class Range, class = detail::IfRange<Range>, class = std::enable_if_t<detail::Form<T>::is_slice, Range>>
    void send(const Range& elements) {
        send(detail::elements<value_type>(elements), std::size(elements));
    }
    template <class Range, class = detail::IfRange<Range>, class = std::enable_if_t<detail::Form<T>::is_slice, Range>>
    Result<void> send(const Range& elements, std::nothrow_t) noexcept {
        return send(detail::elements<value_type>(elements), std::size(elements), std::nothrow);
    }

    /**
     * Publishes copies of `count` values in a row. Returns how many.
     *
     * For high rates: chunks of up to 64 messages share what each call of send() costs anew, such as a
     * memory fence, the look for sleeping subscribers and the time stamp. Subscribers receive each message
     * as soon as it is written; those that sleep are woken once per chunk. If every slot is held, the batch
     * ends after the messages before: then fewer were sent, and sending the next one throws the reason.
     *
     * @throws as send(value); then none was sent
     */
    std::size_t send_batch(const value_type* messages, std::size_t count) {
        static_assert(!Type::is_slice, "a slice is a message of many elements: send_batch(slices)");
        std::size_t sent = 0;
        detail::check(send_values(messages, count, sent));
        return sent;
    }
    Result<std::size_t> send_batch(const value_type* messages, std::size_t count, std::nothrow_t) noexcept {
        static_assert(!Type::is_slice, "a slice is a message of many elements: send_batch(slices, std::nothrow)");
        return detail::Access::result<std::size_t>(
            [&](std::size_t& sent) { return send_values(messages, count, sent); });
    }

    /**
     * Publishes copies of many messages in a row: of a std::vector, std::array, std::span or similar of
     * values, or, in a topic of slices, of ranges whose elements can be sent as one. Returns how many.
     *
     *     publisher.send_batch(std::array<Imu, 100>{...});
     *     log.send_batch(std::vector<std::string>{"one", "three"});
     *
     * As send_batch(messages, count). A slice that does not fit into a slot ends the batch, too. Slices go
     * 64 at a time; if the topic was unlinked between two chunks, that is thrown, and published() says how
     * many were sent.
     *
     * @throws as send(); except for that, then none was sent
     */
    template <class Range, class = detail::IfRange<Range>>
    std::size_t send_batch(const Range& messages) {
        std::size_t sent = 0;
        detail::check(send_range(messages, sent));
        return sent;
    }
    template <class Range, class = detail::IfRange<Range>>
    Result<std::size_t> send_batch(const Range& messages, std::nothrow_t) noexcept {
        return detail::Access::result<std::size_t>([&](std::size_t& sent) { return send_range(messages, sent); });
    }

    /**
     * Lends a slot, in which the next message is written in place. A publisher has one loan at a time.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, TopicRemoved, TopicUnlinked (once)
     */
    [[nodiscard]] Loan<T> loan() {
        static_assert(!Type::is_slice, "how many elements: loan(count)");
        Loan<T> loan;
        detail::check(loan.core_.lend(core_, sizeof(value_type)));
        return loan;
    }
    Result<Loan<T>> loan(std::nothrow_t) noexcept {
        static_assert(!Type::is_slice, "how many elements: loan(count, std::nothrow)");
        return detail::Access::result<Loan<T>>(
            [&](Loan<T>& loan) { return loan.core_.lend(core_, sizeof(value_type)); });
    }

    /**
     * Lends a slot for a slice of `count` elements.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, MessageTooLarge, TopicRemoved, TopicUnlinked
     *         (once)
     */
    [[nodiscard]] Loan<T> loan(std::size_t count) {
        static_assert(Type::is_slice, "a value has no count: loan()");
        Loan<T> loan;
        detail::check(loan.core_.lend(core_, Type::bytes(count)));
        return loan;
    }
    Result<Loan<T>> loan(std::size_t count, std::nothrow_t) noexcept {
        static_assert(Type::is_slice, "a value has no count: loan(std::nothrow)");
        return detail::Access::result<Loan<T>>(
            [&](Loan<T>& loan) { return loan.core_.lend(core_, Type::bytes(count)); });
    }

    /**
     * Number of subscribers that are attached: they receive what is sent from now on. It makes
     * several system calls: use it for flow control and reports, not for every message.
     *
     * @throws InvalidHandle, Forked, LoanOut
     */
    [[nodiscard]] std::size_t subscribers() {
        std::size_t count = 0;
        detail::check(conduit_publisher_subscribers(core_.handle(), &count));
        return count;
    }
    Result<std::size_t> subscribers(std::nothrow_t) noexcept {
        return detail::Access::result<std::size_t>(
            [&](std::size_t& count) { return conduit_publisher_subscribers(core_.handle(), &count); });
    }

    /// Number of messages published so far, which is the sequence number of the next.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t published() const { return check(), conduit_publisher_published(core_.handle()); }

    /// Length of the largest message in bytes.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::size_t capacity() const { return check(), conduit_publisher_capacity(core_.handle()); }

    /// Number of slots.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint32_t slots() const { return check(), conduit_publisher_slots(core_.handle()); }

    /// The topic's name.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::string topic() const { return check(); }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return core_.handle() != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /**
     * Closes the topic: its name is removed and a loan is discarded. Subscribers receive the remaining
     * messages and then PublisherClosed; samples that they hold stay valid. Does nothing if it is not
     * open. The destructor does the same.
     */
    void close() noexcept { core_.close(); }

private:
    conduit_error send_values(const value_type* messages, std::size_t count, std::size_t& sent) {
        return conduit_publisher_send_array(core_.handle(), messages, sizeof(value_type), count, &sent);
    }

    template <class Range>
    conduit_error send_range(const Range& messages, std::size_t& sent) {
        if constexpr (Type::is_slice) {
            return send_slices(std::data(messages), std::size(messages), sent);
        } else {
            return send_values(detail::elements<value_type>(messages), std::size(messages), sent);
        }
    }

    template <class Slice>
    conduit_error send_slices(const Slice* slices, std::size_t count, std::size_t& sent) {
        conduit_message chunk[64];
        conduit_error code = CONDUIT_OK;
        std::size_t chunk_sent = 0;
        std::size_t chunk_size = 0;
        do {
            chunk_size = count - sent < std::size(chunk) ? count - sent : std::size(chunk);
            for (std::size_t at = 0; at < chunk_size; ++at) {
                const Slice& slice = slices[sent + at];
                chunk[at] = {detail::elements<value_type>(slice), Type::bytes(std::size(slice))};
            }
            code = conduit_publisher_send_batch(core_.handle(), chunk, chunk_size, &chunk_sent);
            sent += chunk_sent;
        } while (code == CONDUIT_OK && chunk_sent == chunk_size && sent < count);
        // Other reasons to send no more are found by the next call.
        return sent == 0 || code == CONDUIT_ERROR_UNLINKED ? code : CONDUIT_OK;
    }

    /// The name, which is not NULL if the publisher is open in this process.
    const char* check() const {
        const char* topic = conduit_publisher_topic(core_.handle());
        if (__builtin_expect(topic == nullptr, 0)) {
            detail::raise_last(conduit_last_error());
        }
        return topic;
    }

    detail::PublisherCore core_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_PUBLISHER

// SPDX-License-Identifier: MIT OR Apache-2.0
// Loans of a publisher. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_LOAN
#define CONDUIT_HPP_LOAN

#include "options.hpp"

#include <cstddef>
#include <iterator>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace conduit {

namespace detail {

class LoanCore;

/// A publisher without its type. It and its loan point to each other, and update the other's pointer
/// when they are moved or end.
class PublisherCore {
public:
    PublisherCore() noexcept = default;
    inline PublisherCore(PublisherCore&& other) noexcept;
    inline PublisherCore& operator=(PublisherCore&& other) noexcept;
    ~PublisherCore() { close(); }

    conduit_publisher* handle() const noexcept { return handle_; }

    conduit_error create(const std::string& name, const conduit_type& type, const PublisherOptions& given) {
        const CDomain domain(given.domain);
        conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
        options.domain = domain.get();
        options.message_type = &type;
        options.slots = given.slots;
        options.slot_size = given.slot_size;
        options.capacity = given.capacity;
        options.takeover_timeout_ns = nanoseconds(given.takeover_timeout);
        options.deadline_ns = nanoseconds(given.deadline);
        options.mode = given.mode.value_or(0);
        options.group = given.group.value_or(0);
        options.has_group = given.group.has_value();
        options.no_time_stamps = !given.time_stamps;
        options.no_prefault = !given.prefault;
        options.max_subscribers = given.max_subscribers;
        options.retain = given.retain;
        const std::optional<std::string> shape = text(given.shape);
        options.shape = shape ? shape->c_str() : nullptr;
        return conduit_publisher_create(text(name).c_str(), &options, &handle_);
    }

    inline void close() noexcept;

private:
    friend class LoanCore;

    conduit_publisher* handle_ = nullptr;
    LoanCore* loan_ = nullptr;
};

/// A loan without its type.
class LoanCore {
public:
    LoanCore() noexcept = default;
    LoanCore(LoanCore&& other) noexcept { take_over(other); }
    LoanCore& operator=(LoanCore&& other) noexcept {
        if (this != &other) {
            discard();
            take_over(other);
        }
        return *this;
    }
    ~LoanCore() { discard(); }

    conduit_error lend(PublisherCore& publisher, std::size_t bytes) {
        void* data = nullptr;
        const conduit_error code = conduit_publisher_loan(publisher.handle_, bytes, &data);
        if (__builtin_expect(code == CONDUIT_OK, 1)) {
            publisher_ = &publisher;
            publisher.loan_ = this;
            data_ = data;
            bytes_ = bytes;
        }
        return code;
    }

    [[nodiscard]] void* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

    conduit_error publish() { return conduit_publisher_publish(end()); }

    void discard() noexcept {
        if (data_ != nullptr) {
            conduit_publisher_discard(end());
        }
    }

    conduit_error truncate(std::size_t bytes) {
        const conduit_error code = conduit_publisher_truncate(publisher_->handle_, bytes);
        if (code == CONDUIT_OK) {
            bytes_ = bytes;
        }
        return code;
    }

private:
    friend class PublisherCore;

    /// Detaches the loan from the publisher and returns its handle.
    conduit_publisher* end() noexcept {
        conduit_publisher* handle = publisher_->handle_;
        publisher_->loan_ = nullptr;
        publisher_ = nullptr;
        data_ = nullptr;
        bytes_ = 0;
        return handle;
    }

    void take_over(LoanCore& other) noexcept {
        publisher_ = std::exchange(other.publisher_, nullptr);
        data_ = std::exchange(other.data_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
        if (publisher_ != nullptr) {
            publisher_->loan_ = this;
        }
    }

    PublisherCore* publisher_ = nullptr;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

inline PublisherCore::PublisherCore(PublisherCore&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), loan_(std::exchange(other.loan_, nullptr)) {
    if (loan_ != nullptr) {
        loan_->publisher_ = this;
    }
}

inline PublisherCore& PublisherCore::operator=(PublisherCore&& other) noexcept {
    if (this != &other) {
        close();
        handle_ = std::exchange(other.handle_, nullptr);
        loan_ = std::exchange(other.loan_, nullptr);
        if (loan_ != nullptr) {
            loan_->publisher_ = this;
        }
    }
    return *this;
}

inline void PublisherCore::close() noexcept {
    if (loan_ != nullptr) {
        loan_->discard();
    }
    if (handle_ != nullptr) {
        conduit_publisher_close(std::exchange(handle_, nullptr));
    }
}

/// The elements of a range that can be sent as a slice of `Element`.
template <class Element, class Range>
const Element* elements(const Range& range) {
    using Given = std::remove_cv_t<std::remove_pointer_t<decltype(std::data(range))>>;
    static_assert(!(std::is_array_v<Range> && std::is_same_v<Given, char>),
                  "the NUL at the end of a literal would be sent; make a std::string_view of it");
    static_assert(std::is_same_v<Given, Element> || (std::is_same_v<Element, std::byte> && sizeof(Given) == 1 &&
                                                     std::is_trivially_copyable_v<Given>),
                  "the elements are not those of the topic");
    return reinterpret_cast<const Element*>(std::data(range));
}

template <class Range>
using IfRange = std::void_t<decltype(std::data(std::declval<const Range&>())),
                            decltype(std::size(std::declval<const Range&>()))>;

}  // namespace detail

template <class T>
class Publisher;

/**
 * A slot in shared memory for the next message of a publisher, which no subscriber sees before it is
 * published.
 *
 * The contents are unspecified until they are written. The destructor discards a loan that was not
 * published. A loan follows its publisher when that is moved, and ends when it is closed. After that,
 * and after it was published, discarded or moved from, a loan is empty: it can be assigned to, asked
 * whether it is empty, discarded and destroyed; everything else throws NoLoan.
 */
template <class T>
class Loan {
public:
    /// The type of the value, or of the elements of the slice.
    using value_type = detail::Element<T>;

    /// An empty one.
    Loan() noexcept = default;

    /// Whether it is not empty.
    explicit operator bool() const noexcept { return core_.data() != nullptr; }

    /**
     * The value.
     *
     * @throws NoLoan
     */
    value_type& operator*() {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return *data();
    }
    /**
     * Its members.
     *
     * @throws NoLoan
     */
    value_type* operator->() {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return data();
    }

    /**
     * The value, or the first element. Aligned to 64 bytes, a value of up to 32 bytes to 32.
     *
     * @throws NoLoan
     */
    [[nodiscard]] value_type* data() {
        if (__builtin_expect(core_.data() == nullptr, 0)) {
            detail::raise(detail::no_loan());
        }
        return static_cast<value_type*>(core_.data());
    }

    /// Number of elements; 1 for a value, 0 if it is empty.
    [[nodiscard]] std::size_t size() const noexcept { return core_.bytes() / sizeof(value_type); }
    /// Size in bytes; 0 if it is empty.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return core_.bytes(); }

    /// An element; the index is not checked.
    /// @throws NoLoan
    value_type& operator[](std::size_t index) { return data()[index]; }
    /// @throws NoLoan
    value_type* begin() { return data(); }
    /// @throws NoLoan
    value_type* end() { return data() + size(); }

#if defined(__cpp_lib_span)
    /// The elements; one for a value.
    /// @throws NoLoan
    [[nodiscard]] std::span<value_type> span() { return {data(), size()}; }
#endif

    /**
     * Shortens the slice to its first `count` elements.
     *
     * @throws NoLoan, MessageTooLarge (it is shorter), Forked; the loan then stays as it was
     */
    void truncate(std::size_t count) {
        static_assert(detail::Form<T>::is_slice, "a value has one size");
        static_cast<void>(data());
        detail::check(core_.truncate(detail::MessageType<T>::bytes(count)));
    }
    Result<void> truncate(std::size_t count, std::nothrow_t) noexcept {
        static_assert(detail::Form<T>::is_slice, "a value has one size");
        if (!*this) {
            return detail::Access::failed<void>(detail::no_loan());
        }
        return detail::Access::result([&] { return core_.truncate(detail::MessageType<T>::bytes(count)); });
    }

    /**
     * Publishes the message. Its memory is not to be used any more.
     *
     * @throws NoLoan, Forked
     */
    void publish() {
        if (__builtin_expect(!*this, 0)) {
            detail::raise(detail::no_loan());
        }
        detail::check(core_.publish());
    }
    Result<void> publish(std::nothrow_t) noexcept {
        if (__builtin_expect(!*this, 0)) {
            return detail::Access::failed<void>(detail::no_loan());
        }
        return detail::Access::result([&] { return core_.publish(); });
    }

    /// Gives the place back unseen. Does nothing if it is empty.
    void discard() noexcept { core_.discard(); }

private:
    friend class Publisher<T>;

    detail::LoanCore core_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_LOAN

// SPDX-License-Identifier: MIT OR Apache-2.0
// Raw regions. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_REGION
#define CONDUIT_HPP_REGION

#include "options.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <string>
#include <utility>

namespace conduit {

/**
 * A raw region: named shared memory without a header. Its file contains the user's bytes alone.
 *
 *     auto region = conduit::ShmRegion::create("counter", 4096);
 *     *static_cast<int*>(region.data()) = 42;
 *
 *     auto region = conduit::ShmRegion::open("counter");  // in another process
 *     int value = *static_cast<int*>(region.data());      // 42
 *
 * The destructor unmaps the memory. The region keeps its name and contents until unlink() or a
 * restart of the machine. If its creator dies without destroying the object, the region is an orphan,
 * which conduitd removes and the next creator takes over. One thread at a time.
 */
class ShmRegion {
public:
    /// An object that is not open.
    ShmRegion() noexcept = default;
    ShmRegion(ShmRegion&& other) noexcept
        : handle_(std::move(other.handle_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    ShmRegion& operator=(ShmRegion&& other) noexcept {
        ShmRegion moved(std::move(other));
        std::swap(handle_, moved.handle_);
        std::swap(data_, moved.data_);
        std::swap(size_, moved.size_);
        return *this;
    }

    /**
     * Creates a region of exactly `size` bytes, zeroed and aligned to a page. A region that a dead owner
     * left behind is taken over.
     *
     * @throws InvalidName, NotAllowed, InvalidSize, NoSpace, NoMemory, UnsuitableFileSystem,
     *         AlreadyPublished (its creator is alive and has it open), AlreadyExists, ForeignFile,
     *         NotRemovable, IoError, InvalidArgument
     */
    [[nodiscard]] static ShmRegion create(const std::string& name, std::size_t size,
                                          const RegionOptions& options = {}) {
        ShmRegion region;
        detail::check(region.create_into(name, size, options));
        return region;
    }
    static Result<ShmRegion> create(const std::string& name, std::size_t size, std::nothrow_t,
                                    const RegionOptions& options = {}) noexcept {
        return detail::Access::result<ShmRegion>(
            [&](ShmRegion& region) { return region.create_into(name, size, options); });
    }

    /**
     * Opens a region for reading and writing.
     *
     * @throws InvalidName, NotFound, PermissionDenied, WrongKind, IoError, InvalidArgument
     */
    [[nodiscard]] static ShmRegion open(const std::string& name, const Domain& domain = {}) {
        ShmRegion region;
        detail::check(region.open_into(name, domain));
        return region;
    }
    static Result<ShmRegion> open(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<ShmRegion>([&](ShmRegion& region) { return region.open_into(name, domain); });
    }

    /**
     * Whether a region or topic exists.
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    [[nodiscard]] static bool exists(const std::string& name, const Domain& domain = {}) {
        bool exists = false;
        detail::check(look(name, domain, exists));
        return exists;
    }
    static Result<bool> exists(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) { return look(name, domain, exists); });
    }

    /**
     * Sleeps until a region or topic exists, or `keep_waiting` becomes false. Returns whether it exists.
     *
     * Many programs call this flag `running`. The call returns as soon as the region appears, and within
     * about 20 ms after the flag is cleared.
     *
     *     std::atomic<bool> running{true};  // a signal handler sets it to false
     *     if (!conduit::ShmRegion::wait_until_exists("imu", running)) return 0;
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    static bool wait_until_exists(const std::string& name, const std::atomic<bool>& keep_waiting,
                                  const Domain& domain = {}) {
        bool exists = false;
        detail::check(wait(name, CONDUIT_FOREVER, &ask_flag, address_of(keep_waiting), domain, exists));
        return exists;
    }
    static Result<bool> wait_until_exists(const std::string& name, const std::atomic<bool>& keep_waiting,
                                          std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) {
            return wait(name, CONDUIT_FOREVER, &ask_flag, address_of(keep_waiting), domain, exists);
        });
    }

    /**
     * Sleeps until a region or topic exists, or `stop` is stopped, which throws Stopped. Nothing polls. Returns
     * whether it exists.
     *
     * @throws Stopped, InvalidName, IoError, InvalidArgument, InvalidHandle (of the stop)
     */
    static bool wait_until_exists(const std::string& name, const Stop& stop, const Domain& domain = {}) {
        bool exists = false;
        detail::check(wait_or_stop(name, stop, domain, exists));
        return exists;
    }
    static Result<bool> wait_until_exists(const std::string& name, const Stop& stop, std::nothrow_t,
                                          const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>(
            [&](bool& exists) { return wait_or_stop(name, stop, domain, exists); });
    }

    /**
     * Sleeps until a region or topic exists, or the timeout expires. Returns whether it exists.
     *
     *     if (!conduit::ShmRegion::wait_until_exists_for("imu", std::chrono::seconds(10))) ...
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    template <class Rep, class Period>
    static bool wait_until_exists_for(const std::string& name, const std::chrono::duration<Rep, Period>& timeout,
                                      const Domain& domain = {}) {
        bool exists = false;
        detail::check(wait(name, detail::nanoseconds(timeout), nullptr, nullptr, domain, exists));
        return exists;
    }
    template <class Rep, class Period>
    static Result<bool> wait_until_exists_for(const std::string& name,
                                              const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t,
                                              const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) {
            return wait(name, detail::nanoseconds(timeout), nullptr, nullptr, domain, exists);
        });
    }

    /**
     * Sleeps until a region or topic exists, or `keep_waiting()` returns false; it is called on this
     * thread, about every 20 ms. Returns whether the region exists.
     *
     * An exception that `keep_waiting` throws ends the wait and is thrown from here, also by the form with
     * std::nothrow, which therefore is not noexcept.
     *
     * @throws InvalidName, IoError, InvalidArgument, and what `keep_waiting` throws
     */
    static bool wait_until_exists_while(const std::string& name, const std::function<bool()>& keep_waiting,
                                        const Domain& domain = {}) {
        bool exists = false;
        Question question{keep_waiting, nullptr};
        const conduit_error code = wait(name, CONDUIT_FOREVER, &ask_function, &question, domain, exists);
        question.rethrow();
        detail::check(code);
        return exists;
    }
    static Result<bool> wait_until_exists_while(const std::string& name, const std::function<bool()>& keep_waiting,
                                                std::nothrow_t, const Domain& domain = {}) {
        Question question{keep_waiting, nullptr};
        auto result = detail::Access::result<bool>([&](bool& exists) {
            return wait(name, CONDUIT_FOREVER, &ask_function, &question, domain, exists);
        });
        question.rethrow();
        return result;
    }

    /**
     * Removes the name of a raw region, even while processes have it open; its memory is freed when the
     * last of them has closed it. The name of a topic is removed only if its publisher is dead.
     *
     * @throws InvalidName, NotFound, TopicIsLive, ForeignFile, IoError, InvalidArgument
     */
    static void unlink(const std::string& name, const Domain& domain = {}) {
        detail::check(conduit_region_unlink(detail::text(name).c_str(), detail::CDomain(domain).get()));
    }
    static Result<void> unlink(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result(
            [&] { return conduit_region_unlink(detail::text(name).c_str(), detail::CDomain(domain).get()); });
    }

    /**
     * The address of the memory, aligned to a page and valid for size() bytes until the object is closed
     * or destroyed. It does not change when the object is moved.
     *
     * Other processes read and write the same memory at any time: use atomic variables or locks.
     *
     * @throws InvalidHandle
     */
    [[nodiscard]] void* data() { return check(), data_; }
    [[nodiscard]] const void* data() const { return check(), data_; }

    /**
     * Size in bytes, as it was created.
     *
     * @throws InvalidHandle
     */
    [[nodiscard]] std::size_t size() const { return check(), size_; }

    /**
     * The region's name.
     *
     * @throws InvalidHandle, Forked
     */
    [[nodiscard]] std::string name() const {
        const char* name = conduit_region_name(handle_.get());
        if (name == nullptr) {
            detail::raise_last(conduit_last_error());
        }
        return name;
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Unmaps the memory and keeps its name and contents. Does nothing if it is not open.
    void close() noexcept { *this = ShmRegion(); }

private:
    /// The function to call, and what it threw.
    struct Question {
        const std::function<bool()>& ask;
        std::exception_ptr thrown;

        void rethrow() const {
#if defined(__cpp_exceptions)
            if (thrown) {
                std::rethrow_exception(thrown);
            }
#endif
        }
    };

    static bool ask_flag(void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load(); }

    /// No exception may pass through C.
    static bool ask_function(void* context) {
        auto* question = static_cast<Question*>(context);
#if defined(__cpp_exceptions)
        try {
            return question->ask();
        } catch (...) {
            question->thrown = std::current_exception();
            return false;
        }
#else
        return question->ask();
#endif
    }

    /// The context of a C callback is not const; `ask_flag` only reads it.
    static void* address_of(const std::atomic<bool>& flag) noexcept {
        return const_cast<void*>(static_cast<const void*>(&flag));
    }

    static conduit_error look(const std::string& name, const Domain& domain, bool& exists) {
        return conduit_region_exists(detail::text(name).c_str(), detail::CDomain(domain).get(), &exists);
    }

    static conduit_error wait(const std::string& name, std::uint64_t timeout_ns, conduit_keep_waiting keep_waiting,
                              void* context, const Domain& domain, bool& exists) {
        return conduit_region_wait_until_exists(detail::text(name).c_str(), detail::CDomain(domain).get(), timeout_ns,
                                                keep_waiting, context, &exists);
    }

    static conduit_error wait_or_stop(const std::string& name, const Stop& stop, const Domain& domain, bool& exists) {
        return conduit_region_wait_until_exists_or_stopped(
            detail::text(name).c_str(), detail::CDomain(domain).get(), CONDUIT_FOREVER, stop.handle_.get(), &exists);
    }

    conduit_error create_into(const std::string& name, std::size_t size, const RegionOptions& given) {
        const detail::CDomain domain(given.domain);
        conduit_region_options options = CONDUIT_REGION_OPTIONS_INIT;
        options.domain = domain.get();
        options.mode = given.mode.value_or(0);
        options.group = given.group.value_or(0);
        options.has_group = given.group.has_value();
        options.takeover_timeout_ns = detail::nanoseconds(given.takeover_timeout);
        conduit_region* region = nullptr;
        const conduit_error code = conduit_region_create(detail::text(name).c_str(), size, &options, &region);
        hold(region);
        return code;
    }

    conduit_error open_into(const std::string& name, const Domain& domain) {
        conduit_region* region = nullptr;
        const conduit_error code =
            conduit_region_open(detail::text(name).c_str(), detail::CDomain(domain).get(), &region);
        hold(region);
        return code;
    }

    void hold(conduit_region* region) {
        if (region != nullptr) {
            handle_.reset(region);
            data_ = conduit_region_data(region);
            size_ = conduit_region_size(region);
        }
    }

    void check() const {
        if (__builtin_expect(handle_ == nullptr, 0)) {
            detail::raise_last(CONDUIT_ERROR_INVALID_HANDLE);
        }
    }

    detail::RegionHandle handle_;
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_REGION

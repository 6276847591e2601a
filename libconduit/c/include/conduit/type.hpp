// SPDX-License-Identifier: MIT OR Apache-2.0
// Message types and their names. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_TYPE
#define CONDUIT_HPP_TYPE

#include "../conduit.h"

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

namespace conduit {

/// Whether a message is one value or a slice.
enum class Kind : std::int32_t {
    value = CONDUIT_VALUE,  ///< One value.
    slice = CONDUIT_SLICE,  ///< Any number of elements, up to the capacity.
};

/// The type of a topic's messages, as its publisher declared it.
struct TypeInfo {
    std::string name;         ///< The name, "robot/Imu" for example.
    Kind kind = Kind::value;  ///< One value, or a slice.
    std::size_t size = 0;     ///< Size of the value, or of one element, in bytes.
    std::size_t align = 0;    ///< Its alignment in bytes.
};

/// Selects an overload by a type.
template <class T>
struct TypeTag {};

namespace detail {

/// Whether a text is a valid name of a type: 1 to 64 bytes without control characters.
template <std::size_t N>
constexpr bool is_type_name(const char (&name)[N]) noexcept {
    if (N < 2 || N > 65) {
        return false;
    }
    for (std::size_t at = 0; at + 1 < N; ++at) {
        const auto byte = static_cast<unsigned char>(name[at]);
        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

template <class T>
constexpr const char* primitive_name() noexcept {
    if constexpr (std::is_same_v<T, bool>) {
        return "bool";
    } else if constexpr (std::is_same_v<T, std::byte> || std::is_same_v<T, char>) {
        return "u8";
#if defined(__cpp_char8_t)
    } else if constexpr (std::is_same_v<T, char8_t>) {
        return "u8";
#endif
    } else if constexpr (std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>) {
        return nullptr;
    } else if constexpr (std::is_integral_v<T>) {
        switch (sizeof(T)) {
            case 1: return std::is_signed_v<T> ? "i8" : "u8";
            case 2: return std::is_signed_v<T> ? "i16" : "u16";
            case 4: return std::is_signed_v<T> ? "i32" : "u32";
            case 8: return std::is_signed_v<T> ? "i64" : "u64";
            default: return nullptr;
        }
    } else if constexpr (std::is_same_v<T, float>) {
        return "f32";
    } else if constexpr (std::is_same_v<T, double>) {
        return "f64";
    } else {
        return nullptr;
    }
}

template <class>
inline constexpr bool is_missing = true;

}  // namespace detail

/**
 * The name of a message type: `value`.
 *
 * Numbers have the names they have in Rust ("f64", "u8", "bool"); an array has the name of its
 * elements. Name structures and enumerations with CONDUIT_TYPE. For a type in a namespace that is
 * not yours, specialise this template:
 *
 *     template <>
 *     struct conduit::TypeName<theirs::Imu> { static constexpr const char* value = "robot/Imu"; };
 */
template <class T, class = void>
struct TypeName {
    static_assert(!detail::is_missing<T>,
                  "a message type has a name: write CONDUIT_TYPE(Imu, \"robot/Imu\"); after it, in the same namespace");
};

template <class T>
struct TypeName<T, std::enable_if_t<detail::primitive_name<T>() != nullptr>> {
    static constexpr const char* value = detail::primitive_name<T>();
};

template <class T>
struct TypeName<T, std::void_t<decltype(conduit_type_name(TypeTag<T>{}))>> {
    static constexpr const char* value = conduit_type_name(TypeTag<T>{});
};

template <class T, std::size_t N>
struct TypeName<T[N], void> : TypeName<T> {};

template <class T, std::size_t N>
struct TypeName<std::array<T, N>, void> : TypeName<T> {
    static_assert(N != 0, "an array of no elements is no message type");
};

/**
 * Names a message type. Use it in the namespace of the type, after its definition and before its
 * first use in a topic.
 *
 *     namespace robot {
 *     struct Imu { double gyro[3]; double acceleration[3]; };
 *     CONDUIT_TYPE(Imu, "robot/Imu");
 *     }
 *
 * The name identifies the type across programs and languages: 1 to 64 bytes of UTF-8 without control
 * characters.
 */
#define CONDUIT_TYPE(TYPE, NAME)                                                                             \
    static_assert(::conduit::detail::is_type_name(NAME),                                                     \
                  "the name of a message type has 1 to 64 bytes without control characters");                \
    [[maybe_unused]] constexpr const char* conduit_type_name(::conduit::TypeTag<TYPE>) noexcept {            \
        return NAME;                                                                                         \
    }                                                                                                        \
    static_assert(true, "takes the semicolon")

namespace detail {

template <class T>
struct Form {
    using Element = T;
    static constexpr bool is_slice = false;
};

template <class T>
struct Form<T[]> {
    using Element = T;
    static constexpr bool is_slice = true;
};

// A topic of std::byte is one of raw bytes: single bytes are no useful messages.
template <>
struct Form<std::byte> : Form<std::byte[]> {};

/// The properties of a topic's template argument.
template <class T>
struct MessageType : Form<T> {
    using typename Form<T>::Element;

    static_assert(std::is_object_v<Element> && !std::is_const_v<Element> && !std::is_volatile_v<Element>,
                  "a message type is a type of objects, without const and volatile");
    static_assert(std::is_trivially_copyable_v<Element>,
                  "a message type is trivially copyable: other processes see nothing but its bytes");
    static_assert(!std::is_pointer_v<Element> && !std::is_member_pointer_v<Element>,
                  "a pointer means nothing to another process");
    static_assert(alignof(Element) <= 64, "a message type is aligned to at most 64 bytes");

    static conduit_type get() noexcept {
        return {TypeName<Element>::value, Form<T>::is_slice ? CONDUIT_SLICE : CONDUIT_VALUE,
                static_cast<std::uint32_t>(alignof(Element)), sizeof(Element)};
    }

    /// The size of so many elements in bytes. If that overflows, a size that no slot has.
    static constexpr std::size_t bytes(std::size_t count) noexcept {
        constexpr std::size_t most = SIZE_MAX / sizeof(Element);
        return (count < most ? count : most) * sizeof(Element);
    }
};

template <class T>
using Element = typename Form<T>::Element;

/// A text for C, which ends at a NUL: each is replaced by a character that is not valid in a name.
inline std::string text(const std::string& given) {
    std::string text = given;
    for (auto at = text.find('\0'); at != std::string::npos; at = text.find('\0', at)) {
        text.replace(at, 1, "\xef\xbf\xbd");
    }
    return text;
}

inline std::optional<std::string> text(const std::optional<std::string>& given) {
    return given ? std::optional<std::string>(text(*given)) : std::nullopt;
}

inline std::string text_or_empty(const char* text) {
    return text != nullptr ? std::string(text) : std::string();
}

/// A duration for C: 0 if it is negative, no limit if it is larger than 64 bits of nanoseconds.
template <class Rep, class Period>
std::uint64_t nanoseconds(const std::chrono::duration<Rep, Period>& time) {
    const auto ns = std::chrono::duration<long double, std::nano>(time).count();
    if (!(ns > 0)) {
        return 0;
    }
    return ns < 9.2e18L ? static_cast<std::uint64_t>(std::ceil(ns)) : CONDUIT_FOREVER;
}

/// The time until a deadline; none if it has passed.
template <class Clock, class Duration>
auto left(const std::chrono::time_point<Clock, Duration>& deadline) {
    const auto now = Clock::now();
    using Left = decltype(deadline - now);
    return deadline > now ? deadline - now : Left::zero();
}

}  // namespace detail

}  // namespace conduit

#endif  // CONDUIT_HPP_TYPE

// Checks that the tests in C++ share.
#ifndef CHECK_HPP
#define CHECK_HPP

#include <conduit.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition);      \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

/// Runs `action`, which throws exactly this class; returns a copy of it.
template <class Expected, class Action>
Expected thrown_by(const char* file, int line, const char* what, Action&& action) {
    try {
        action();
    } catch (const conduit::Error& error) {
        if (typeid(error) == typeid(Expected) && error.what()[0] != '\0') {
            return dynamic_cast<const Expected&>(error);
        }
        std::fprintf(stderr, "%s:%d: %s threw %s: %s\n", file, line, what, typeid(error).name(), error.what());
        std::exit(1);
    }
    std::fprintf(stderr, "%s:%d: %s threw nothing\n", file, line, what);
    std::exit(1);
}

#define THROWS(class, action) thrown_by<class>(__FILE__, __LINE__, #action, [&] { static_cast<void>(action); })

/// Polls until a condition holds, for at most a minute.
template <class Condition>
void poll_until(const char* file, int line, const char* what, Condition&& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) {
            std::fprintf(stderr, "%s:%d: not within a minute: %s\n", file, line, what);
            std::exit(1);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

#define POLL_UNTIL(condition) poll_until(__FILE__, __LINE__, #condition, [&] { return condition; })

inline bool contains(const std::string& text, const std::string& words) {
    return text.find(words) != std::string::npos;
}

#endif

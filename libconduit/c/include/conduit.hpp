// SPDX-License-Identifier: MIT OR Apache-2.0
/**
 * @file conduit.hpp
 * Conduit for C++17 and later: zero-copy publish/subscribe between the processes of one Linux
 * machine.
 *
 * A message type is any trivially copyable type with a name, which programs in all languages use:
 *
 *     // imu.hpp
 *     #include <conduit.hpp>
 *
 *     struct Imu { double gyro[3]; double acceleration[3]; };
 *     CONDUIT_TYPE(Imu, "robot/Imu");
 *
 * One process publishes it:
 *
 *     #include "imu.hpp"
 *     #include <thread>
 *
 *     int main() {
 *         auto publisher = conduit::Publisher<Imu>::create("imu");
 *         for (double t = 0; t < 60; t += 0.01) {
 *             auto loan = publisher.loan();          // a slot in shared memory
 *             *loan = Imu{{0, 0, t}, {0, 0, 9.81}};  // written in place
 *             loan.publish();
 *             std::this_thread::sleep_for(std::chrono::milliseconds(10));
 *         }
 *     }
 *
 * Any number of others read it, without a copy:
 *
 *     #include "imu.hpp"
 *     #include <cstdio>
 *
 *     int main() {
 *         auto subscriber = conduit::Subscriber<Imu>::open("imu");
 *         try {
 *             for (;;) {
 *                 auto imu = subscriber.wait();
 *                 std::printf("%f rad/s\n", imu->gyro[2]);
 *             }
 *         } catch (const conduit::PublisherGone& gone) {
 *             std::puts(gone.what());  // the publisher of topic "imu" died; open the topic again when it is back
 *         }
 *     }
 *
 * Compile each with `g++ -std=c++17 publisher.cpp $(pkg-config --cflags --libs conduit)`, or link
 * `conduit::conduit` of CMake's `find_package(conduit)`.
 *
 * @par Types
 * Publisher<T> and Subscriber<T> send single values: a structure named with CONDUIT_TYPE, a number,
 * or a std::array. Publisher<T[]> and Subscriber<T[]> send slices, which are any number of `T` per
 * message. Publisher<std::byte> is for raw bytes. Publisher and subscriber must agree on the name,
 * size and alignment of the type; this is checked when the topic is opened. In Rust it is a
 * `#[repr(C)]` structure with `#[message(name = "robot/Imu")]`. Rust refuses padding; give it a
 * name (`uint8_t reserved[4]`).
 *
 * @par Errors
 * Functions throw a conduit::Error. Its what() says what happened, to what, and what to do. Each
 * kind of error has a class, and the documentation of a function lists those it throws; Internal,
 * which is a bug in the library, and std::bad_alloc are not listed. Each such function also has a
 * form that does not throw and returns a Result: it takes std::nothrow after the arguments that it
 * needs and before its options.
 *
 *     auto opened = conduit::Subscriber<Imu>::open("imu", std::nothrow);
 *     if (!opened) { std::puts(opened.error().message.c_str()); return 1; }
 *     auto subscriber = std::move(*opened);
 *
 * In the forms that do not throw, running out of memory ends the program (std::terminate). With
 * -fno-exceptions the forms that would throw print the message and abort.
 *
 * @par Objects
 * ShmRegion, Publisher, Subscriber, PatternSubscriber, Loan, Sample, WaitSet, Waker, Inspection, Registry and
 * Watch can be moved and not copied. An object that was
 * closed, moved from, or default-constructed is not open: it can be assigned to, asked whether it is
 * open, closed and destroyed; everything else throws InvalidHandle. Destructors close.
 *
 * @par Threads
 * Functions and different objects may be used at the same time. An object may be used on any
 * thread, by one thread at a time; a publisher and its loan count as one object. Const functions may
 * run at the same time as each other. A sample is an object of its own: it may outlive its
 * subscriber, and be destroyed on another thread.
 *
 * @par Fork
 * A child does not inherit the memory of topics and regions. There functions throw Forked, and
 * destructors change nothing for the parent. Reading a region or a sample is an invalid memory
 * access.
 *
 * Sizes are in bytes unless they are said to count elements. Strings are UTF-8.
 */

#ifndef CONDUIT_HPP
#define CONDUIT_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "conduit.hpp needs C++17 or later: -std=c++17"
#endif

#include "conduit/error.hpp"
#include "conduit/type.hpp"
#include "conduit/stop.hpp"
#include "conduit/options.hpp"
#include "conduit/region.hpp"
#include "conduit/loan.hpp"
#include "conduit/publisher.hpp"
#include "conduit/sample.hpp"
#include "conduit/topic_event.hpp"
#include "conduit/subscriber.hpp"
#include "conduit/pattern_subscriber.hpp"
#include "conduit/wait_set.hpp"
#include "conduit/registry.hpp"
#include "conduit/inspection.hpp"
#include "conduit/watch.hpp"

#endif  // CONDUIT_HPP

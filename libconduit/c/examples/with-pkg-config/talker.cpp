// Publishes three greetings when it has a subscriber.

#include "greeting.hpp"

#include <chrono>
#include <cstdio>
#include <thread>

int main() {
    auto publisher = conduit::Publisher<Greeting>::create("greeting");
    while (publisher.subscribers() == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (std::uint32_t number = 1; number <= 3; ++number) {
        auto loan = publisher.loan();
        std::snprintf(loan->text, sizeof loan->text, "hello");
        loan->number = number;
        loan.publish();
    }
}

// Prints greetings until the publisher closes the topic.

#include "greeting.hpp"

#include <cstdio>

int main() {
    conduit::ShmRegion::wait_until_exists_for("greeting", std::chrono::seconds(10));
    auto subscriber = conduit::Subscriber<Greeting>::open("greeting");
    try {
        for (;;) {
            auto greeting = subscriber.wait();
            std::printf("%s %u\n", greeting->text, greeting->number);
        }
    } catch (const conduit::PublisherClosed& closed) {
        std::puts(closed.what());
    }
}

// Looks at regions from outside: counters, shapes and the headers of messages.

#include "check.hpp"

#include <unistd.h>

using conduit::Element;
using conduit::ErrorCode;
using conduit::Inspection;
using conduit::Publisher;
using conduit::PublisherOptions;
using conduit::Subscriber;

static_assert(std::is_nothrow_move_constructible_v<Inspection> && !std::is_copy_constructible_v<Inspection>);

static void topics() {
    PublisherOptions options;
    options.slots = 128;
    options.mode = 0640;
    options.shape = std::string(R"({"type": "f64", "count": 3})");
    auto publisher = Publisher<std::array<double, 3>>::create("wind", options);
    auto subscriber = Subscriber<std::array<double, 3>>::open("wind");
    auto inspection = Inspection::open("wind");
    CHECK(inspection && inspection.is_open());
    const auto type = inspection.message_type();
    CHECK(type.name == "f64" && type.size == 24 && type.kind == conduit::Kind::value);
    const auto shape = inspection.shape();
    CHECK(shape && shape->element == Element::f64 && shape->is_array && shape->count == 3 && shape->size == 24);
    CHECK(shape->text == "f64[3]" && shape->fields.empty());
    CHECK(inspection.access().mode == 0640 && inspection.access(std::nothrow)->uid == getuid());
    publisher.send_batch(std::vector<std::array<double, 3>>(100));
    const auto topic = inspection.describe();
    CHECK(topic.published == 100 && topic.name == "wind" && topic.subscribers.size() == 1);
    CHECK(topic.subscribers[0].lag == 100 && inspection.describe(std::nothrow)->state == conduit::State::live);
    // More than one chunk.
    std::uint64_t position = 0;
    const auto messages = inspection.messages(position);
    CHECK(messages.size() == 100 && position == 100 && messages[99].sequence == 99 && messages[0].size == 24);
    CHECK(messages[0].published_at <= std::chrono::steady_clock::now());
    CHECK(inspection.messages(position).empty() && inspection.messages(position, std::nothrow)->empty());

    options.shape = std::string(R"({"type": {"struct": {"size": 16, "fields": [
        {"name": "x", "offset": 0, "type": "f64"}, {"name": "y", "offset": 8, "type": "u8", "count": 8}]}}})");
    auto structures = Publisher<std::array<double, 2>>::create("structures", options);
    const auto tree = Inspection::open("structures").shape(std::nothrow);
    CHECK(tree && (*tree)->element == Element::structure && (*tree)->fields.size() == 2);
    CHECK((*tree)->fields[1].name == "y" && (*tree)->fields[1].offset == 8 && (*tree)->fields[1].shape.count == 8);
}

static void misuse() {
    Inspection inspection;
    std::uint64_t position = 0;
    THROWS(conduit::InvalidHandle, inspection.describe());
    THROWS(conduit::InvalidHandle, inspection.message_type());
    THROWS(conduit::InvalidHandle, inspection.shape());
    THROWS(conduit::InvalidHandle, inspection.messages(position));
    THROWS(conduit::InvalidHandle, inspection.access());
    THROWS(conduit::NotFound, Inspection::open("nothing"));
    CHECK(Inspection::open("a b", std::nothrow).code() == ErrorCode::name);
    auto region = conduit::ShmRegion::create("raw", 64);
    inspection = Inspection::open("raw");
    CHECK(!inspection.shape() && inspection.describe().is_raw);
    THROWS(conduit::WrongKind, inspection.message_type());
    THROWS(conduit::WrongKind, inspection.messages(position));
    CHECK(inspection.messages(position, std::nothrow).code() == ErrorCode::wrong_kind);
    inspection.close();
    CHECK(!inspection.is_open() && inspection.describe(std::nothrow).code() == ErrorCode::invalid_handle);
    region.close();
    conduit::ShmRegion::unlink("raw");
    PublisherOptions options;
    options.shape = std::string("f64");
    THROWS(conduit::InvalidArgument, Publisher<double>::create("shape", options));

    CHECK(conduit::matches("camera/*", "camera/front") && !conduit::matches("camera/*", "lidar"));
    THROWS(conduit::InvalidArgument, conduit::matches("a//b", "a"));
    THROWS(conduit::InvalidName, conduit::matches("a", "a b"));
    CHECK(conduit::matches("[", "a", std::nothrow).code() == ErrorCode::invalid_argument);
}

int main() {
    topics();
    misuse();
}

// Raw regions, in one process and its children.

#include "check.hpp"

#include <cstdint>
#include <sys/stat.h>
#include <thread>

using conduit::ErrorCode;
using conduit::RegionOptions;
using conduit::ShmRegion;
using namespace std::chrono_literals;

struct PointCloud {
    float x[1000000], y[1000000], z[1000000];
};

static void the_manual_page_that_people_know() {
    {
        ShmRegion region = ShmRegion::create("counter", 4096);
        int* ptr = static_cast<int*>(region.data());
        *ptr = 42;
        ShmRegion again = ShmRegion::open("counter");
        int value = *static_cast<int*>(again.data());
        CHECK(value == 42 && region.size() == 4096 && again.size() == 4096);
    }
    // It outlives its creator.
    CHECK(ShmRegion::exists("counter"));
    CHECK(THROWS(conduit::AlreadyExists, ShmRegion::create("counter", 4096)).code() == ErrorCode::exists);
    ShmRegion::unlink("counter");
    CHECK(!ShmRegion::exists("counter"));
    THROWS(conduit::NotFound, ShmRegion::open("counter"));
    THROWS(conduit::NotFound, ShmRegion::unlink("counter"));
    CHECK(ShmRegion::unlink("counter", std::nothrow).code() == ErrorCode::not_found);

    auto lidar = ShmRegion::create("lidar", 13'000'000);
    static_cast<PointCloud*>(lidar.data())->x[0] = 1.5F;
    static_cast<PointCloud*>(lidar.data())->z[999'999] = 2.5F;
    const auto reader = ShmRegion::open("lidar");
    const auto* cloud = static_cast<const PointCloud*>(reader.data());
    CHECK(cloud->x[0] == 1.5F && cloud->z[999'999] == 2.5F && cloud->y[5] == 0 && reader.size() == 13'000'000);
    CHECK(reinterpret_cast<std::uintptr_t>(lidar.data()) % 4096 == 0);
    THROWS(conduit::AlreadyPublished, ShmRegion::create("lidar", 5));
    // Processes that have it open continue to use it.
    ShmRegion::unlink("lidar");
    CHECK(cloud->x[0] == 1.5F && !ShmRegion::exists("lidar"));
}

static void waiting() {
    std::atomic<bool> running{false};
    CHECK(!ShmRegion::wait_until_exists("waited", running));
    CHECK(!*ShmRegion::wait_until_exists("waited", running, std::nothrow));
    // Whenever another thread clears the flag, the wait ends.
    running = true;
    std::thread stopper([&] { running = false; });
    CHECK(!ShmRegion::wait_until_exists("waited", running));
    stopper.join();
    // Another thread acts when it knows that this one waits: it has asked whether to continue.
    running = true;
    std::atomic<int> asked{0};
    const auto ask = [&] {
        ++asked;
        return running.load();
    };
    std::thread late_stopper([&] {
        POLL_UNTIL(asked > 0);
        running = false;
    });
    CHECK(!ShmRegion::wait_until_exists_while("waited", ask));
    late_stopper.join();
    running = true;
    asked = 0;
    std::thread creator([&] {
        POLL_UNTIL(asked > 0);
        ShmRegion::create("waited", 8).close();
    });
    CHECK(ShmRegion::wait_until_exists_while("waited", ask));
    creator.join();
    CHECK(ShmRegion::wait_until_exists("waited", running));
    // A region that exists is found whether the flag is set or not.
    running = false;
    CHECK(ShmRegion::wait_until_exists("waited", running));
    CHECK(ShmRegion::wait_until_exists_for("waited", 0s) && ShmRegion::wait_until_exists_for("waited", 10s));
    ShmRegion::unlink("waited");
    CHECK(!ShmRegion::wait_until_exists_for("waited", 5ms) && !*ShmRegion::wait_until_exists_for("waited", -5ms, std::nothrow));
    int left = 3;
    CHECK(!ShmRegion::wait_until_exists_while("waited", [&] { return --left > 0; }) && left == 0);
}

static void options_and_errors() {
    RegionOptions options;
    options.mode = 0640;
    auto region = ShmRegion::create("mode", 10, options);
    const std::string path = std::string(std::getenv("CONDUIT_SHM_DIR")) + "/conduit_mode";
    struct stat status = {};
    CHECK(stat(path.c_str(), &status) == 0 && (status.st_mode & 0777) == 0640 && status.st_size == 10);
    ShmRegion::unlink("mode");
    THROWS(conduit::InvalidSize, ShmRegion::create("size", 0));
    THROWS(conduit::InvalidName, ShmRegion::exists("a b"));
    THROWS(conduit::InvalidName, ShmRegion::wait_until_exists_for("a b", 1s));
    CHECK(ShmRegion::create("a b", 1, std::nothrow).code() == ErrorCode::name);
    CHECK(ShmRegion::open("a b", std::nothrow).code() == ErrorCode::name);
    CHECK(ShmRegion::exists("a b", std::nothrow).code() == ErrorCode::name);

    auto topic = conduit::Publisher<int>::create("topic");
    CHECK(*ShmRegion::exists("topic", std::nothrow));
    THROWS(conduit::WrongKind, ShmRegion::open("topic"));
    THROWS(conduit::TopicIsLive, ShmRegion::unlink("topic"));

    conduit::Domain nowhere;
    nowhere.shm_dir = "/nowhere/at/all";
    THROWS(conduit::IoError, ShmRegion::exists("x", nowhere));
    nowhere.shm_dir = "";
    CHECK(THROWS(conduit::InvalidArgument, ShmRegion::exists("x", nowhere)).code() == ErrorCode::invalid_argument);
    conduit::Domain here;
    here.shm_dir = std::getenv("CONDUIT_SHM_DIR");
    here.socket = "";
    CHECK(ShmRegion::exists("topic", here));
}

int main() {
    the_manual_page_that_people_know();
    waiting();
    options_and_errors();
}

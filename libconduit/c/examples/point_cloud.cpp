// A lidar scan of 12 MB in a raw region: three arrays of a million floats, written once and read in place.
//
//     g++ -std=c++17 -O2 point_cloud.cpp -o point_cloud $(pkg-config --cflags --libs conduit)
//     ./point_cloud write
//     ./point_cloud read
//
// A stream of scans would be a topic, not a raw region.

#include <conduit.hpp>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>

using conduit::ShmRegion;
using namespace std::chrono_literals;

static constexpr const char* name = "lidar";
static constexpr std::size_t size = 13'000'000;
static constexpr std::size_t points = 1'000'000;

struct PointCloud {
    float x[points], y[points], z[points];
};

/// After the points: their number, 0 until all of them are written. They do not change after that.
using Count = std::atomic<std::uint32_t>;
static_assert(sizeof(PointCloud) + sizeof(Count) <= size && sizeof(PointCloud) % alignof(Count) == 0);

static Count& count_in(ShmRegion& region) {
    return *reinterpret_cast<Count*>(static_cast<char*>(region.data()) + sizeof(PointCloud));
}

static std::atomic<bool> running{true};

/// A synthetic scan: 64 rings of increasing radius and height.
static void point(std::size_t i, float& x, float& y, float& z) {
    const auto ring = static_cast<float>(i % 64);
    const float angle = static_cast<float>(i) / static_cast<float>(points) * 6.2831855F;
    const float radius = 1.0F + ring * 0.5F;
    x = radius * std::cos(angle);
    y = radius * std::sin(angle);
    z = ring * 0.1F - 1.5F;
}

static double sum(const PointCloud& cloud) {
    double sum = 0;
    for (std::size_t i = 0; i < points; ++i) {
        sum += static_cast<double>(cloud.x[i]) + static_cast<double>(cloud.y[i]) + static_cast<double>(cloud.z[i]);
    }
    return sum;
}

static int write() {
    std::signal(SIGINT, [](int) { running = false; });
    std::signal(SIGTERM, [](int) { running = false; });
    auto region = ShmRegion::create(name, size);
    auto& cloud = *static_cast<PointCloud*>(region.data());
    for (std::size_t i = 0; i < points; ++i) {
        point(i, cloud.x[i], cloud.y[i], cloud.z[i]);
    }
    count_in(region).store(points, std::memory_order_release);
    std::printf("wrote %zu points to region \"%s\", sum %.3f\n", points, name, sum(cloud));
    std::fflush(stdout);
    while (running) {
        std::this_thread::sleep_for(10ms);
    }
    ShmRegion::unlink(name);
    return 0;
}

static int read() {
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    if (!ShmRegion::wait_until_exists_for(name, 10s)) {
        std::fprintf(stderr, "point_cloud: no region \"%s\" within 10 s; run point_cloud write\n", name);
        return 1;
    }
    auto region = ShmRegion::open(name);
    if (region.size() != size) {
        std::fprintf(stderr, "point_cloud: region \"%s\" has %zu bytes, not %zu\n", name, region.size(), size);
        return 1;
    }
    while (count_in(region).load(std::memory_order_acquire) != points) {
        if (std::chrono::steady_clock::now() > deadline) {
            std::fprintf(stderr, "point_cloud: the scan in region \"%s\" is not complete after 10 s\n", name);
            return 1;
        }
        std::this_thread::sleep_for(1ms);
    }
    const auto& cloud = *static_cast<const PointCloud*>(region.data());
    for (const std::size_t i : {std::size_t{0}, points / 2, points - 1}) {
        std::printf("point %6zu: %8.3f %8.3f %8.3f\n", i, static_cast<double>(cloud.x[i]),
                    static_cast<double>(cloud.y[i]), static_cast<double>(cloud.z[i]));
    }
    std::printf("read %zu points of region \"%s\", sum %.3f\n", points, name, sum(cloud));
    return 0;
}

int main(int argc, char** argv) {
    const std::string what = argc == 2 ? argv[1] : "";
    try {
        if (what == "write") {
            return write();
        }
        if (what == "read") {
            return read();
        }
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "point_cloud: %s\n", error.what());
        return 1;
    }
    std::fprintf(stderr, "usage: point_cloud write|read\n");
    return 2;
}

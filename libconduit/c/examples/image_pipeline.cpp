// A camera, a filter that finds edges, and a display: three processes, two topics, no copy between them.
//
//     g++ -std=c++17 -O2 image_pipeline.cpp -o image_pipeline $(pkg-config --cflags --libs conduit)
//     ./image_pipeline camera
//     ./image_pipeline filter
//     ./image_pipeline display
//
// The filter reads an image where the camera wrote it, and writes the edges where the display reads them.

#include <conduit.hpp>

#include <atomic>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>

using namespace std::chrono_literals;

struct Image {
    static constexpr std::size_t width = 640, height = 480;

    std::uint32_t number;
    std::uint8_t pixels[height][width];
};
CONDUIT_TYPE(Image, "example/GreyImage");

static constexpr const char* camera_topic = "camera/image";
static constexpr const char* edges_topic = "camera/edges";

static std::atomic<bool> running{true};

/// Waits until the topic exists, and while it is an orphan that its next publisher has yet to take over.
static conduit::Subscriber<Image> open_when_published(const char* topic) {
    while (running) {
        conduit::ShmRegion::wait_until_exists(topic, running);
        auto opened = conduit::Subscriber<Image>::open(topic, std::nothrow);
        if (opened.code() != conduit::ErrorCode::orphaned && opened.code() != conduit::ErrorCode::not_found) {
            return std::move(opened).value();
        }
        std::this_thread::sleep_for(50ms);
    }
    return {};
}

/// A bright square that moves over a dark background, 30 images per second.
static void camera() {
    auto publisher = conduit::Publisher<Image>::create(camera_topic);
    auto next = std::chrono::steady_clock::now();
    for (std::uint32_t number = 0; running; ++number) {
        // An image is skipped if subscribers hold every slot.
        if (auto loan = publisher.loan(std::nothrow)) {
            Image& image = **loan;
            std::memset(&image, 0, sizeof image);
            image.number = number;
            for (std::size_t y = 0; y < 100; ++y) {
                std::memset(&image.pixels[(number + y) % Image::height][number % (Image::width - 100)], 200, 100);
            }
            loan->publish();
        }
        next += 33ms;
        std::this_thread::sleep_until(next);
    }
}

static void find_edges(const Image& from, Image& to) {
    to.number = from.number;
    for (std::size_t y = 0; y < Image::height; ++y) {
        for (std::size_t x = 0; x < Image::width; ++x) {
            const auto here = from.pixels[y][x];
            const auto right = from.pixels[y][(x + 1) % Image::width];
            const auto below = from.pixels[(y + 1) % Image::height][x];
            to.pixels[y][x] = right != here || below != here ? 255 : 0;
        }
    }
}

static void filter() {
    auto subscriber = open_when_published(camera_topic);
    auto publisher = conduit::Publisher<Image>::create(edges_topic);
    while (running) {
        if (const auto image = subscriber.wait_for(100ms)) {
            auto edges = publisher.loan();
            find_edges(*image, *edges);
            edges.publish();
        }
    }
}

static void display() {
    auto subscriber = open_when_published(edges_topic);
    while (running) {
        if (const auto image = subscriber.wait_for(100ms)) {
            int edges = 0;
            for (const auto& row : image->pixels) {
                for (const auto pixel : row) {
                    edges += pixel != 0 ? 1 : 0;
                }
            }
            std::printf("image %" PRIu32 ": %d pixels on edges, lost %" PRIu64 "\n", image->number, edges, image.lost());
            std::fflush(stdout);
        }
    }
}

int main(int argc, char** argv) {
    const std::string what = argc == 2 ? argv[1] : "";
    std::signal(SIGINT, [](int) { running = false; });
    std::signal(SIGTERM, [](int) { running = false; });
    try {
        if (what == "camera") {
            camera();
        } else if (what == "filter") {
            filter();
        } else if (what == "display") {
            display();
        } else {
            std::fprintf(stderr, "usage: image_pipeline camera|filter|display\n");
            return 2;
        }
    } catch (const conduit::PublisherClosed& closed) {
        std::printf("%s: %s\n", what.c_str(), closed.what());
    } catch (const conduit::Error& error) {
        std::fprintf(stderr, "image_pipeline %s: %s\n", what.c_str(), error.what());
        return 1;
    }
    return 0;
}

/* A camera, a filter that finds edges, and a display: three processes, two topics, no copy between them.
 *
 *     cc image_pipeline.c -o image_pipeline $(pkg-config --cflags --libs conduit)
 *     image_pipeline camera
 *     image_pipeline filter
 *     image_pipeline show
 *
 * The filter holds the image it reads while it writes the next one: a sample and a loan at the same time.
 */
#define _DEFAULT_SOURCE
#include <conduit.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CAMERA "camera/image"
#define EDGES "camera/edges"
#define WIDTH 640
#define HEIGHT 480
#define PATIENCE_NS UINT64_C(10000000000)

typedef struct {
    uint32_t number;
    uint8_t pixels[HEIGHT][WIDTH];
} Image;

static const conduit_type image_type = {"example/GreyImage", CONDUIT_VALUE, _Alignof(Image), sizeof(Image)};

static int fail(const char *role) {
    fprintf(stderr, "image_pipeline: %s: %s\n", role, conduit_last_error_message());
    return EXIT_FAILURE;
}

static conduit_publisher *publisher_of(const char *topic) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &image_type;
    conduit_publisher *publisher;
    return conduit_publisher_create(topic, &options, &publisher) == CONDUIT_OK ? publisher : NULL;
}

/* Waits until the topic exists, and while it is an orphan that its next publisher has yet to take over. */
static conduit_subscriber *subscriber_of(const char *topic) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &image_type;
    conduit_subscriber *subscriber = NULL;
    for (int attempt = 0; attempt < 100; attempt++) {
        bool exists;
        if (conduit_region_wait_until_exists(topic, NULL, PATIENCE_NS, NULL, NULL, &exists) != CONDUIT_OK) {
            break;
        }
        conduit_error error = conduit_subscriber_open(topic, &options, &subscriber);
        if (!exists || (error != CONDUIT_ERROR_ORPHANED && error != CONDUIT_ERROR_NOT_FOUND)) {
            break;
        }
        struct timespec pause = {0, 100000000};
        nanosleep(&pause, NULL);
    }
    return subscriber;
}

/* A bright square that moves over a dark background, 30 images per second. */
static int camera(void) {
    conduit_publisher *publisher = publisher_of(CAMERA);
    if (publisher == NULL) {
        return fail("camera");
    }
    for (uint32_t number = 0;; number++) {
        void *data;
        if (conduit_publisher_loan(publisher, sizeof(Image), &data) == CONDUIT_OK) {
            Image *image = data;
            memset(image, 0, sizeof *image);
            image->number = number;
            for (uint32_t y = 0; y < 100; y++) {
                memset(&image->pixels[(number + y) % HEIGHT][number % (WIDTH - 100)], 200, 100);
            }
            if (conduit_publisher_publish(publisher) != CONDUIT_OK) {
                return fail("camera");
            }
        }
        struct timespec pause = {0, 33333333};
        nanosleep(&pause, NULL);
    }
}

static void find_edges(const Image *from, Image *to) {
    to->number = from->number;
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            int right = from->pixels[y][(x + 1) % WIDTH], below = from->pixels[(y + 1) % HEIGHT][x];
            int here = from->pixels[y][x];
            to->pixels[y][x] = right != here || below != here ? 255 : 0;
        }
    }
}

static int filter(void) {
    conduit_subscriber *subscriber = subscriber_of(CAMERA);
    conduit_publisher *publisher = subscriber != NULL ? publisher_of(EDGES) : NULL;
    if (publisher == NULL) {
        int status = fail("filter");
        conduit_subscriber_close(subscriber);
        return status;
    }
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_error error;
    while ((error = conduit_subscriber_recv(subscriber, &sample)) == CONDUIT_OK) {
        void *edges;
        if (conduit_publisher_loan(publisher, sizeof(Image), &edges) == CONDUIT_OK) {
            find_edges(sample.data, edges);
            if (conduit_publisher_publish(publisher) != CONDUIT_OK) {
                fail("filter");
            }
        }
        conduit_sample_release(&sample);
    }
    int status = error == CONDUIT_ERROR_PUBLISHER_CLOSED ? EXIT_SUCCESS : fail("filter");
    conduit_publisher_close(publisher);
    conduit_subscriber_close(subscriber);
    return status;
}

static int show(void) {
    conduit_subscriber *subscriber = subscriber_of(EDGES);
    if (subscriber == NULL) {
        return fail("show");
    }
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_error error;
    while ((error = conduit_subscriber_recv(subscriber, &sample)) == CONDUIT_OK) {
        const Image *image = sample.data;
        int edges = 0;
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) {
                edges += image->pixels[y][x] != 0;
            }
        }
        printf("image %u: %d pixels on edges, lost %llu\n", (unsigned)image->number, edges,
               (unsigned long long)sample.lost);
        fflush(stdout);
        conduit_sample_release(&sample);
    }
    printf("the filter %s\n", error == CONDUIT_ERROR_PUBLISHER_CLOSED ? "has ended" : "is gone");
    int status = error == CONDUIT_ERROR_PUBLISHER_CLOSED ? EXIT_SUCCESS : fail("show");
    conduit_subscriber_close(subscriber);
    return status;
}

int main(int argc, char **argv) {
    const char *what = argc == 2 ? argv[1] : "";
    if (strcmp(what, "camera") == 0) {
        return camera();
    }
    if (strcmp(what, "filter") == 0) {
        return filter();
    }
    if (strcmp(what, "show") == 0) {
        return show();
    }
    fprintf(stderr, "usage: image_pipeline camera|filter|show\n");
    return 2;
}

/* Lidar scans of 12 MB, twenty per second, that are written where they are read and never copied.
 *
 *     cc point_cloud.c -o point_cloud $(pkg-config --cflags --libs conduit) -lm
 *     point_cloud publish
 *     point_cloud subscribe
 */
#define _DEFAULT_SOURCE
#include <conduit.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOPIC "lidar"
#define POINTS 1000000
#define PATIENCE_NS UINT64_C(10000000000)

typedef struct {
    float x[POINTS], y[POINTS], z[POINTS];
} PointCloud;

static const conduit_type cloud_type = {"example/PointCloud", CONDUIT_VALUE, _Alignof(PointCloud), sizeof(PointCloud)};

static int fail(void) {
    fprintf(stderr, "point_cloud: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

/* A synthetic scan of 64 rings, rotated a little each time. */
static void scan(PointCloud *cloud, unsigned number) {
    for (int i = 0; i < POINTS; i++) {
        float ring = (float)(i % 64);
        float angle = (float)i / POINTS * 6.2831853f + (float)number * 0.01f;
        cloud->x[i] = (1 + ring * 0.5f) * cosf(angle);
        cloud->y[i] = (1 + ring * 0.5f) * sinf(angle);
        cloud->z[i] = ring * 0.1f - 1.5f;
    }
}

static int publish(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &cloud_type;
    options.slots = 4;
    conduit_publisher *publisher;
    if (conduit_publisher_create(TOPIC, &options, &publisher) != CONDUIT_OK) {
        return fail();
    }
    for (unsigned number = 0;; number++) {
        void *cloud;
        conduit_error error = conduit_publisher_loan(publisher, sizeof(PointCloud), &cloud);
        if (error == CONDUIT_OK) {
            scan(cloud, number);
            error = conduit_publisher_publish(publisher);
        }
        if (error != CONDUIT_OK) {
            int status = fail();
            conduit_publisher_close(publisher);
            return status;
        }
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
    }
}

static int subscribe(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &cloud_type;
    conduit_subscriber *subscriber;
    bool exists;
    if (conduit_region_wait_until_exists(TOPIC, NULL, PATIENCE_NS, NULL, NULL, &exists) != CONDUIT_OK ||
        conduit_subscriber_open(TOPIC, &options, &subscriber) != CONDUIT_OK) {
        return fail();
    }
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_error error;
    while ((error = conduit_subscriber_recv(subscriber, &sample)) == CONDUIT_OK) {
        const PointCloud *cloud = sample.data;
        float farthest = 0;
        for (int i = 0; i < POINTS; i++) {
            float distance = cloud->x[i] * cloud->x[i] + cloud->y[i] * cloud->y[i];
            farthest = distance > farthest ? distance : farthest;
        }
        printf("scan %llu: %zu bytes, farthest point %.2f m, lost %llu\n", (unsigned long long)sample.sequence,
               sample.size, (double)sqrtf(farthest), (unsigned long long)sample.lost);
        fflush(stdout);
        conduit_sample_release(&sample);
    }
    int status = error == CONDUIT_ERROR_PUBLISHER_CLOSED ? EXIT_SUCCESS : fail();
    conduit_subscriber_close(subscriber);
    return status;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "publish") == 0) {
        return publish();
    }
    if (argc == 2 && strcmp(argv[1], "subscribe") == 0) {
        return subscribe();
    }
    fprintf(stderr, "usage: point_cloud publish|subscribe\n");
    return 2;
}

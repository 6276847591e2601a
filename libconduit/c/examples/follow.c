/* Prints inertial measurements, whenever there is a publisher, and what happens in between, until
 * SIGTERM or Ctrl-C stops it.
 *
 *     cc follow.c -o follow $(pkg-config --cflags --libs conduit)
 */
#include "imu.h"

#include <stdio.h>
#include <stdlib.h>

/* How long no measurement may come until that is reported. */
#define DEADLINE_NS UINT64_C(200000000)

static int fail(void) {
    fprintf(stderr, "follow: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

static void print(const conduit_topic_event *event, const conduit_sample *sample) {
    switch (event->kind) {
        case CONDUIT_TOPIC_SAMPLE: {
            const Imu *imu = sample->data;
            printf("#%llu gyro %6.3f %6.3f %6.3f rad/s\n", (unsigned long long)sample->sequence, imu->gyro[0],
                   imu->gyro[1], imu->gyro[2]);
            break;
        }
        case CONDUIT_TOPIC_CONNECTED: printf("connected to %s (%u)\n", event->program, event->pid); break;
        case CONDUIT_TOPIC_LOST:
            printf("the publisher %s; waiting for the next one\n", event->died ? "died" : "closed the topic");
            if (event->death != NULL && event->death->signal != 0) {
                printf("it was killed by signal %d\n", event->death->signal);
            }
            break;
        case CONDUIT_TOPIC_OVERDUE: printf("nothing for %.1f s\n", (double)event->silence_ns / 1e9); break;
        case CONDUIT_TOPIC_RESUMED: printf("resumed after %.1f s\n", (double)event->silence_ns / 1e9); break;
        default: break; /* of a later version */
    }
    fflush(stdout);
}

int main(void) {
    conduit_stop *stop;
    if (conduit_stop_on_signals(NULL, 0, &stop) != CONDUIT_OK) {
        return fail();
    }
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &imu_type;
    options.follow = true;
    options.deadline_ns = DEADLINE_NS;
    options.stop = stop;
    conduit_subscriber *subscriber;
    if (conduit_subscriber_open(IMU_TOPIC, &options, &subscriber) != CONDUIT_OK) {
        return fail();
    }

    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_topic_event *event;
    conduit_error error;
    while ((error = conduit_subscriber_recv_event(subscriber, CONDUIT_FOREVER, &sample, &event)) !=
           CONDUIT_ERROR_STOPPED) {
        if (error == CONDUIT_OK) {
            print(event, &sample);
            if (event->kind == CONDUIT_TOPIC_SAMPLE) {
                conduit_sample_release(&sample);
            }
        } else if (error == CONDUIT_ERROR_TYPE_MISMATCH || error == CONDUIT_ERROR_NOT_FOLLOWED) {
            fail(); /* The subscriber waits for another publisher. */
        } else {
            return fail();
        }
    }
    printf("received %llu from %u publishers, lost %llu\n", (unsigned long long)conduit_subscriber_received(subscriber),
           conduit_subscriber_epoch(subscriber), (unsigned long long)conduit_subscriber_lost(subscriber));
    conduit_subscriber_close(subscriber);
    conduit_stop_close(stop);
    return EXIT_SUCCESS;
}

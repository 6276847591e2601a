/* Publishers, subscribers, loans, samples and types, as they are meant to be used. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>

typedef struct {
    double gyro[3];
    double acceleration[3];
} Imu;

static const conduit_type imu_type = {"robot/Imu", CONDUIT_VALUE, _Alignof(Imu), sizeof(Imu)};

static void send_and_receive(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("front/camera", NULL, &publisher));
    CHECK(same(conduit_publisher_topic(publisher), "front/camera"));
    FAILS(conduit_publisher_create("front/camera", NULL, &(conduit_publisher *){NULL}), CONDUIT_ERROR_ALREADY_PUBLISHED,
          "already published by pid");
    OK(conduit_publisher_send(publisher, "before", 6));
    OK(conduit_subscriber_open("front/camera", NULL, &subscriber));
    CHECK(same(conduit_subscriber_topic(subscriber), "front/camera"));
    CHECK(conduit_subscriber_is_zero_copy(subscriber));
    size_t count;
    OK(conduit_publisher_subscribers(publisher, &count));
    CHECK(count == 1);

    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    CHECK(conduit_subscriber_try_recv(subscriber, &sample) == CONDUIT_NO_MESSAGE);
    FAILS(conduit_subscriber_recv_timeout(subscriber, 1000000, &sample), CONDUIT_ERROR_TIMED_OUT, "within 1ms");
    FAILS(conduit_subscriber_recv_timeout(subscriber, 0, &sample), CONDUIT_ERROR_TIMED_OUT, "front/camera");
    OK(conduit_publisher_send(publisher, "hello", 6));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(sample.size == 6 && same(sample.data, "hello") && sample.sequence == 1 && sample.lost == 0);
    CHECK((uintptr_t)sample.data % 64 == 0);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    CHECK(sample.stamp_ns <= now_ns && now_ns - sample.stamp_ns < 60000000000);

    /* A structure holds one sample, and gives it back once. */
    OK(conduit_publisher_send(publisher, "next", 5));
    FAILS(conduit_subscriber_try_recv(subscriber, &sample), CONDUIT_ERROR_SAMPLE_HELD, "release it");
    CHECK(same(sample.data, "hello"));
    OK(conduit_sample_release(&sample));
    CHECK(sample.data == NULL && sample.size == 0);
    FAILS(conduit_sample_release(&sample), CONDUIT_ERROR_NO_SAMPLE, "released before");
    OK(conduit_subscriber_recv_timeout(subscriber, CONDUIT_FOREVER, &sample));
    /* It can be moved. */
    conduit_sample moved = sample;
    sample = (conduit_sample)CONDUIT_SAMPLE_INIT;
    CHECK(same(moved.data, "next"));
    FAILS(conduit_sample_release(&sample), CONDUIT_ERROR_NO_SAMPLE, "no sample");
    CHECK(conduit_subscriber_received(subscriber) == 2 && conduit_subscriber_lost(subscriber) == 0);

    /* Sixteen slots, one of which is held: of the 20 the first ones are lost. */
    for (int i = 0; i < 20; i++) {
        OK(conduit_publisher_send(publisher, &i, sizeof i));
    }
    CHECK(conduit_publisher_published(publisher) == 23);
    uint64_t received = 0, lost = 0;
    while (conduit_subscriber_try_recv(subscriber, &sample) == CONDUIT_OK) {
        received += 1;
        lost += sample.lost;
        OK(conduit_sample_release(&sample));
    }
    CHECK(received + lost == 20 && lost >= 4);
    CHECK(conduit_subscriber_lost(subscriber) == lost);
    CHECK(same(moved.data, "next"));

    /* It may outlive subscriber and topic. */
    OK(conduit_publisher_send(publisher, "last", 5));
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "last"));
    OK(conduit_sample_release(&sample));
    FAILS(conduit_subscriber_recv(subscriber, &sample), CONDUIT_ERROR_PUBLISHER_CLOSED, "closed the topic");
    OK(conduit_subscriber_close(subscriber));
    CHECK(same(moved.data, "next"));
    OK(conduit_sample_release(&moved));
    FAILS(conduit_subscriber_open("front/camera", NULL, &subscriber), CONDUIT_ERROR_NOT_FOUND, "does not exist");
    CHECK(subscriber == NULL);
}

static void shares(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.slots = 4;
    OK(conduit_publisher_create("shares", &options, &publisher));
    OK(conduit_subscriber_open("shares", NULL, &subscriber));
    conduit_sample held[3] = {CONDUIT_SAMPLE_INIT, CONDUIT_SAMPLE_INIT, CONDUIT_SAMPLE_INIT};
    for (int i = 0; i < 3; i++) {
        OK(conduit_publisher_send(publisher, &"abc"[i], 1));
    }
    OK(conduit_subscriber_recv(subscriber, &held[0]));
    OK(conduit_subscriber_recv(subscriber, &held[1]));
    /* Half of the slots. */
    FAILS(conduit_subscriber_recv(subscriber, &held[2]), CONDUIT_ERROR_TOO_MANY_HELD, "holds 2 samples of topic \"shares\"");
    OK(conduit_sample_release(&held[0]));
    OK(conduit_subscriber_recv(subscriber, &held[2]));
    CHECK(*(const char *)held[2].data == 'c' && held[2].lost == 0);
    OK(conduit_sample_release(&held[1]));
    OK(conduit_sample_release(&held[2]));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static void loans(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.slots = 2;
    options.capacity = 100;
    options.no_time_stamps = true;
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("loans", &options, &publisher));
    conduit_subscriber_options share = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    share.max_held = 2;
    OK(conduit_subscriber_open("loans", &share, &subscriber));
    CHECK(conduit_publisher_capacity(publisher) >= 100 && conduit_publisher_slots(publisher) == 2);
    size_t capacity = conduit_publisher_capacity(publisher);

    void *data, *other;
    FAILS(conduit_publisher_loan(publisher, capacity + 1, &data), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "does not fit");
    CHECK(data == NULL);
    FAILS(conduit_publisher_send(publisher, options.reserved, capacity + 1), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "does not fit");
    OK(conduit_publisher_loan(publisher, 100, &data));
    CHECK((uintptr_t)data % 64 == 0);
    memset(data, 'x', 100);
    FAILS(conduit_publisher_loan(publisher, 1, &other), CONDUIT_ERROR_LOAN_OUT, "publish or discard");
    FAILS(conduit_publisher_send(publisher, "x", 1), CONDUIT_ERROR_LOAN_OUT, "publish or discard");
    size_t count;
    FAILS(conduit_publisher_subscribers(publisher, &count), CONDUIT_ERROR_LOAN_OUT, "publish or discard");
    CHECK(conduit_publisher_published(publisher) == 0 && same(conduit_publisher_topic(publisher), "loans"));
    FAILS(conduit_publisher_truncate(publisher, 101), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "101");
    OK(conduit_publisher_truncate(publisher, 70));
    FAILS(conduit_publisher_truncate(publisher, 71), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "71");
    OK(conduit_publisher_publish(publisher));
    FAILS(conduit_publisher_publish(publisher), CONDUIT_ERROR_NO_LOAN, "no loan");
    FAILS(conduit_publisher_discard(publisher), CONDUIT_ERROR_NO_LOAN, "no loan");
    FAILS(conduit_publisher_truncate(publisher, 1), CONDUIT_ERROR_NO_LOAN, "no loan");

    conduit_sample first = CONDUIT_SAMPLE_INIT, second = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &first));
    CHECK(first.size == 70 && ((const char *)first.data)[69] == 'x' && first.stamp_ns == 0);
    OK(conduit_publisher_loan(publisher, 5, &data));
    OK(conduit_publisher_discard(publisher));
    CHECK(conduit_subscriber_try_recv(subscriber, &second) == CONDUIT_NO_MESSAGE);
    OK(conduit_publisher_send(publisher, "b", 1));
    OK(conduit_subscriber_recv(subscriber, &second));
    FAILS(conduit_publisher_send(publisher, "c", 1), CONDUIT_ERROR_ALL_SLOTS_HELD, "all 2 slots are held");
    FAILS(conduit_publisher_loan(publisher, 1, &data), CONDUIT_ERROR_ALL_SLOTS_HELD, "all 2 slots are held");
    OK(conduit_sample_release(&first));
    OK(conduit_publisher_send(publisher, "c", 1));
    OK(conduit_sample_release(&second));

    /* Closed with a loan out. */
    OK(conduit_publisher_loan(publisher, 5, &data));
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_recv(subscriber, &first));
    CHECK(first.size == 1 && first.sequence == 2);
    OK(conduit_sample_release(&first));
    FAILS(conduit_subscriber_try_recv(subscriber, &first), CONDUIT_ERROR_PUBLISHER_CLOSED, "closed");
    OK(conduit_subscriber_close(subscriber));
}

static void types(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &imu_type;
    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("imu", &options, &publisher));

    FAILS(conduit_subscriber_open("imu", NULL, &subscriber), CONDUIT_ERROR_TYPE_MISMATCH, "robot/Imu (48 bytes, align 8)");
    conduit_type other = imu_type;
    other.kind = CONDUIT_SLICE;
    reading.message_type = &other;
    FAILS(conduit_subscriber_open("imu", &reading, &subscriber), CONDUIT_ERROR_TYPE_MISMATCH, "[robot/Imu]");
    other = imu_type;
    other.name = "robot/IMU";
    FAILS(conduit_subscriber_open("imu", &reading, &subscriber), CONDUIT_ERROR_TYPE_MISMATCH, "robot/IMU");
    reading.message_type = &imu_type;
    OK(conduit_subscriber_open("imu", &reading, &subscriber));
    conduit_type found;
    OK(conduit_subscriber_type(subscriber, &found));
    CHECK(same(found.name, "robot/Imu") && found.kind == CONDUIT_VALUE && found.size == 48 && found.align == 8);

    Imu imu = {{1, 2, 3}, {4, 5, 6}};
    void *data;
    FAILS(conduit_publisher_send(publisher, &imu, 47), CONDUIT_ERROR_WRONG_LENGTH, "whose length is 48 bytes");
    FAILS(conduit_publisher_loan(publisher, 96, &data), CONDUIT_ERROR_WRONG_LENGTH, "96 bytes");
    FAILS(conduit_publisher_send(publisher, NULL, 0), CONDUIT_ERROR_WRONG_LENGTH, "48 bytes");
    OK(conduit_publisher_loan(publisher, sizeof imu, &data));
    *(Imu *)data = imu;
    FAILS(conduit_publisher_truncate(publisher, 40), CONDUIT_ERROR_WRONG_LENGTH, "48 bytes");
    OK(conduit_publisher_publish(publisher));
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(sample.size == sizeof imu && ((const Imu *)sample.data)->acceleration[2] == 6);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));

    /* A subscriber of any type, that starts with the oldest message and receives copies. */
    OK(conduit_publisher_send(publisher, &imu, sizeof imu));
    reading.message_type = NULL;
    reading.any_type = true;
    reading.copy_samples = true;
    reading.start = CONDUIT_START_OLDEST;
    OK(conduit_subscriber_open("imu", &reading, &subscriber));
    CHECK(!conduit_subscriber_is_zero_copy(subscriber));
    OK(conduit_subscriber_type(subscriber, &found));
    CHECK(same(found.name, "robot/Imu"));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(sample.sequence == 0 && memcmp(sample.data, &imu, sizeof imu) == 0 && (uintptr_t)sample.data % 64 == 0);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    reading.start = CONDUIT_START_LATEST;
    reading.spin_ns = 1000;
    OK(conduit_subscriber_open("imu", &reading, &subscriber));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(sample.sequence == 1);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    reading.spin_ns = CONDUIT_FOREVER;
    reading.adaptive_spin = true;
    OK(conduit_subscriber_open("imu", &reading, &subscriber));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(sample.sequence == 1);
    OK(conduit_sample_release(&sample));
    /* It does not poll forever. */
    CHECK(conduit_subscriber_recv_timeout(subscriber, 1000000, &sample) == CONDUIT_ERROR_TIMED_OUT);
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));

    /* Slices. */
    conduit_type points = {"lidar/Point", CONDUIT_SLICE, 4, 12};
    options.message_type = &points;
    OK(conduit_publisher_create("cloud", &options, &publisher));
    FAILS(conduit_publisher_send(publisher, &imu, 13), CONDUIT_ERROR_WRONG_LENGTH, "a multiple of 12 bytes");
    OK(conduit_publisher_send(publisher, &imu, 48));
    OK(conduit_publisher_send(publisher, NULL, 0));
    OK(conduit_publisher_loan(publisher, 36, &data));
    FAILS(conduit_publisher_truncate(publisher, 23), CONDUIT_ERROR_WRONG_LENGTH, "a multiple of 12 bytes");
    OK(conduit_publisher_truncate(publisher, 24));
    OK(conduit_publisher_close(publisher));
}

typedef struct {
    conduit_sample sample;
    char message[128];
} Handed;

static void *release_elsewhere(void *argument) {
    Handed *handed = argument;
    /* Its own last error, and none so far. */
    CHECK(same(conduit_last_error_message(), ""));
    CHECK(same(handed->sample.data, "handed"));
    OK(conduit_sample_release(&handed->sample));
    FAILS(conduit_sample_release(&handed->sample), CONDUIT_ERROR_NO_SAMPLE, "no sample");
    snprintf(handed->message, sizeof handed->message, "%s", conduit_last_error_message());
    return NULL;
}

static void *many_handles(void *argument) {
    for (int i = 0; i < 50; i++) {
        conduit_publisher *publisher;
        conduit_subscriber *subscriber;
        conduit_sample sample = CONDUIT_SAMPLE_INIT;
        OK(conduit_publisher_create(argument, NULL, &publisher));
        OK(conduit_subscriber_open(argument, NULL, &subscriber));
        OK(conduit_publisher_send(publisher, &i, sizeof i));
        OK(conduit_subscriber_recv(subscriber, &sample));
        CHECK(*(const int *)sample.data == i);
        OK(conduit_publisher_close(publisher));
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_sample_release(&sample));
    }
    return NULL;
}

static void threads(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.slots = 2;
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("threads", &options, &publisher));
    OK(conduit_subscriber_open("threads", NULL, &subscriber));
    Handed handed = {.sample = CONDUIT_SAMPLE_INIT};
    OK(conduit_publisher_send(publisher, "handed", 7));
    OK(conduit_subscriber_recv(subscriber, &handed.sample));
    OK(conduit_subscriber_close(subscriber));
    FAILS(conduit_publisher_discard(publisher), CONDUIT_ERROR_NO_LOAN, "the publisher has no loan");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, release_elsewhere, &handed) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(strstr(handed.message, "no sample") && strstr(conduit_last_error_message(), "the publisher has no loan"));
    /* Both slots can be written. */
    OK(conduit_publisher_send(publisher, "a", 1));
    OK(conduit_publisher_send(publisher, "b", 1));
    OK(conduit_publisher_close(publisher));

    static char names[4][32];
    pthread_t many[4];
    for (int i = 0; i < 4; i++) {
        snprintf(names[i], sizeof names[i], "thread-%d", i);
        CHECK(pthread_create(&many[i], NULL, many_handles, names[i]) == 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(pthread_join(many[i], NULL) == 0);
    }
}

/* The number of this process's threads. */
static int thread_count(void) {
    char line[256];
    int count = 0;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (count == 0 && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "Threads:", 8) == 0) {
            count = (int)strtol(line + 8, NULL, 10);
        }
    }
    fclose(status);
    return count;
}

/* A subscriber that follows: before the publisher exists, and from one to the next. */
static void following(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.follow = true;
    conduit_subscriber *subscriber;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_open("followed", &options, &subscriber));
    CHECK(conduit_subscriber_epoch(subscriber) == 0 && !conduit_subscriber_is_connected(subscriber));
    CHECK(conduit_subscriber_try_recv(subscriber, &sample) == CONDUIT_NO_MESSAGE);
    FAILS(conduit_subscriber_recv_timeout(subscriber, 1000000, &sample), CONDUIT_ERROR_TIMED_OUT, "followed");
    for (uint32_t epoch = 1; epoch <= 3; epoch++) {
        conduit_publisher *publisher;
        OK(conduit_publisher_create("followed", NULL, &publisher));
        OK(conduit_publisher_send(publisher, &epoch, sizeof epoch));
        OK(conduit_subscriber_recv(subscriber, &sample));
        CHECK(*(const uint32_t *)sample.data == epoch && sample.sequence == 0);
        CHECK(conduit_subscriber_epoch(subscriber) == epoch && conduit_subscriber_is_connected(subscriber));
        OK(conduit_sample_release(&sample));
        OK(conduit_publisher_close(publisher));
    }
    /* One with another type is an error, once. */
    conduit_publisher_options typed = CONDUIT_PUBLISHER_OPTIONS_INIT;
    typed.message_type = &imu_type;
    conduit_publisher *other;
    OK(conduit_publisher_create("followed", &typed, &other));
    FAILS(conduit_subscriber_recv(subscriber, &sample), CONDUIT_ERROR_TYPE_MISMATCH, "cannot be followed");
    FAILS(conduit_subscriber_recv_timeout(subscriber, 1000000, &sample), CONDUIT_ERROR_TIMED_OUT, "followed");
    OK(conduit_publisher_close(other));
    CHECK(conduit_subscriber_received(subscriber) == 3);
    SAYS(conduit_subscriber_epoch(NULL), 0, "subscriber is NULL");
    SAYS(conduit_subscriber_is_connected(NULL), false, "subscriber is NULL");
    OK(conduit_subscriber_close(subscriber));
    /* The thread that looked out for publishers ends with the last subscriber that follows. */
    time_t deadline = time(NULL) + 60;
    while (thread_count() > 1) {
        CHECK(time(NULL) < deadline);
        sched_yield();
    }
}

int main(void) {
    send_and_receive();
    shares();
    loans();
    types();
    threads();
    following();
    wait_for_threads();
    return 0;
}

/* Messages and what else happens to a topic, in order. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#define MINUTE UINT64_C(60000000000)

static conduit_publisher *create(void) {
    conduit_publisher *publisher;
    OK(conduit_publisher_create("ticks", NULL, &publisher));
    return publisher;
}

static conduit_subscriber *follow(uint64_t deadline_ns) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.follow = true;
    options.deadline_ns = deadline_ns;
    conduit_subscriber *subscriber;
    OK(conduit_subscriber_open("ticks", &options, &subscriber));
    return subscriber;
}

/* Receives the next event, which has this kind. */
static const conduit_topic_event *next(conduit_subscriber *subscriber, conduit_topic_event_kind kind) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_topic_event *event;
    OK(conduit_subscriber_recv_event(subscriber, MINUTE, &sample, &event));
    CHECK(event->kind == kind && (sample.data != NULL) == (kind == CONDUIT_TOPIC_SAMPLE));
    if (kind == CONDUIT_TOPIC_SAMPLE) {
        CHECK(event->program == NULL && event->death == NULL && sample.size == 1);
        OK(conduit_sample_release(&sample));
    }
    return event;
}

static void publishers_come_and_go(void) {
    conduit_subscriber *subscriber = follow(0);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_topic_event *event = (const conduit_topic_event *)&sample;
    CHECK(conduit_subscriber_try_recv_event(subscriber, &sample, &event) == CONDUIT_NO_MESSAGE && event == NULL);
    FAILS(conduit_subscriber_recv_event(subscriber, 1000000, &sample, &event), CONDUIT_ERROR_TIMED_OUT, "no message");
    CHECK(event == NULL);
    for (uint32_t epoch = 1; epoch <= 3; epoch++) {
        conduit_publisher *publisher = create();
        OK(conduit_publisher_send(publisher, "x", 1));
        event = next(subscriber, CONDUIT_TOPIC_CONNECTED);
        CHECK(event->pid == (uint32_t)getpid() && event->uid == getuid() && strlen(event->program) > 0);
        next(subscriber, CONDUIT_TOPIC_SAMPLE);
        CHECK(conduit_subscriber_epoch(subscriber) == epoch);
        OK(conduit_publisher_close(publisher));
        event = next(subscriber, CONDUIT_TOPIC_LOST);
        CHECK(!event->died && event->death == NULL && event->program == NULL);
    }
    OK(conduit_subscriber_close(subscriber));
}

static void a_publisher_dies(void) {
    conduit_subscriber *subscriber = follow(0);
    const pid_t child = fork();
    if (child == 0) {
        conduit_publisher *publisher = create();
        OK(conduit_publisher_send(publisher, "x", 1));
        pause();
    }
    const conduit_topic_event *event = next(subscriber, CONDUIT_TOPIC_CONNECTED);
    CHECK(event->pid == (uint32_t)child);
    next(subscriber, CONDUIT_TOPIC_SAMPLE);
    int status;
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    event = next(subscriber, CONDUIT_TOPIC_LOST);
    /* There is no registry that could say how. */
    CHECK(event->died && event->death == NULL);
    /* The next publisher takes the name over. */
    conduit_publisher *publisher = create();
    next(subscriber, CONDUIT_TOPIC_CONNECTED);
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
}

static void silences(void) {
    conduit_subscriber *subscriber = follow(20000000);
    CHECK(next(subscriber, CONDUIT_TOPIC_OVERDUE)->silence_ns >= 20000000);
    conduit_publisher *publisher = create();
    next(subscriber, CONDUIT_TOPIC_CONNECTED);
    OK(conduit_publisher_send(publisher, "x", 1));
    CHECK(next(subscriber, CONDUIT_TOPIC_RESUMED)->silence_ns >= 20000000);
    next(subscriber, CONDUIT_TOPIC_SAMPLE);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    FAILS(conduit_subscriber_recv(subscriber, &sample), CONDUIT_ERROR_OVERDUE, "no message on topic \"ticks\"");
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
}

static void misuse(void) {
    conduit_subscriber *subscriber = follow(0);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_topic_event *event;
    FAILS(conduit_subscriber_recv_event(NULL, 0, &sample, &event), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_subscriber_recv_event(subscriber, 0, NULL, &event), CONDUIT_ERROR_INVALID_ARGUMENT, "`sample`");
    FAILS(conduit_subscriber_recv_event(subscriber, 0, &sample, NULL), CONDUIT_ERROR_INVALID_ARGUMENT, "`event`");
    FAILS(conduit_subscriber_try_recv_event(subscriber, &sample, NULL), CONDUIT_ERROR_INVALID_ARGUMENT, "`event`");
    conduit_publisher *publisher = create();
    OK(conduit_publisher_send(publisher, "x", 1));
    next(subscriber, CONDUIT_TOPIC_CONNECTED);
    OK(conduit_subscriber_recv_event(subscriber, MINUTE, &sample, &event));
    FAILS(conduit_subscriber_recv_event(subscriber, 0, &sample, &event), CONDUIT_ERROR_SAMPLE_HELD, "holds a sample");
    OK(conduit_sample_release(&sample));
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
}

int main(void) {
    publishers_come_and_go();
    a_publisher_dies();
    silences();
    misuse();
    wait_for_threads();
    return 0;
}

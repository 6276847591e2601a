/* Subscribers to all topics that match a pattern. */
#include "check.h"

#include <poll.h>
#include <sched.h>
#include <time.h>

static conduit_publisher *publisher_of(const char *topic) {
    conduit_publisher *publisher;
    OK(conduit_publisher_create(topic, NULL, &publisher));
    return publisher;
}

static void send_number(conduit_publisher *publisher, int number) {
    OK(conduit_publisher_send(publisher, &number, sizeof number));
}

/* Until so many topics were found. */
static void wait_for_sources(conduit_pattern_subscriber *all, size_t wanted) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const time_t deadline = time(NULL) + 60;
    size_t count = 0;
    while (count < wanted) {
        CHECK(time(NULL) < deadline);
        CHECK(conduit_pattern_subscriber_try_recv(all, &sample, NULL) == CONDUIT_NO_MESSAGE);
        OK(conduit_pattern_subscriber_sources(all, &count));
        sched_yield();
    }
}

static void messages(void) {
    conduit_pattern_subscriber *all;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const char *topic = "";
    OK(conduit_pattern_subscriber_open("tf/**", NULL, &all));
    CHECK(same(conduit_pattern_subscriber_pattern(all), "tf/**"));
    CHECK(conduit_pattern_subscriber_try_recv(all, &sample, &topic) == CONDUIT_NO_MESSAGE && topic == NULL);
    FAILS(conduit_pattern_subscriber_recv(all, 1000000, &sample, NULL), CONDUIT_ERROR_TIMED_OUT, "\"tf/**\"");
    conduit_publisher *arm = publisher_of("tf/arm"), *base = publisher_of("tf/base/left"), *map = publisher_of("map");
    wait_for_sources(all, 2);
    send_number(base, 1);
    send_number(map, 2);
    send_number(arm, 3);
    send_number(base, 4);
    const char *topics[] = {"tf/base/left", "tf/arm", "tf/base/left"};
    const int numbers[] = {1, 3, 4};
    for (int at = 0; at < 3; at++) {
        OK(conduit_pattern_subscriber_recv(all, CONDUIT_FOREVER, &sample, at == 1 ? NULL : &topic));
        CHECK(*(const int *)sample.data == numbers[at]);
        CHECK(at == 1 || same(topic, topics[at]));
        FAILS(conduit_pattern_subscriber_try_recv(all, &sample, NULL), CONDUIT_ERROR_SAMPLE_HELD, "holds a sample");
        OK(conduit_sample_release(&sample));
    }
    CHECK(conduit_pattern_subscriber_received(all) == 3);
    OK(conduit_publisher_close(base));
    CHECK(conduit_pattern_subscriber_try_recv(all, &sample, &topic) == CONDUIT_NO_MESSAGE);
    size_t count = 0;
    OK(conduit_pattern_subscriber_sources(all, &count));
    CHECK(count == 2);
    const conduit_matched_topic *source = conduit_pattern_subscriber_source(all, 0);
    CHECK(same(source->topic, "tf/arm") && source->is_connected && source->received == 1 && source->refusal == NULL);
    source = conduit_pattern_subscriber_source(all, 1);
    CHECK(same(source->topic, "tf/base/left") && source->received == 2 && source->lost == 0 && source->epoch == 1);
    SAYS(conduit_pattern_subscriber_source(all, 2), NULL, "2 is not below 2");
    OK(conduit_publisher_close(map));
    OK(conduit_publisher_close(arm));
    OK(conduit_pattern_subscriber_close(all));
}

/* The next event, which is of this kind and topic. */
static const conduit_pattern_event *event_of(conduit_pattern_subscriber *all, conduit_sample *sample,
                                             conduit_pattern_event_kind kind, const char *topic) {
    const conduit_pattern_event *event;
    OK(conduit_pattern_subscriber_recv_event(all, CONDUIT_FOREVER, sample, &event));
    CHECK(event->kind == kind && same(event->topic, topic));
    CHECK((sample->data != NULL) == (kind == CONDUIT_PATTERN_MESSAGE));
    return event;
}

static void events(void) {
    const conduit_type type = {.name = "Pose", .kind = CONDUIT_VALUE, .size = 16, .align = 8};
    conduit_publisher_options typed = CONDUIT_PUBLISHER_OPTIONS_INIT;
    typed.message_type = &type;
    conduit_pattern_subscriber *all;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_pattern_event *event;
    OK(conduit_pattern_subscriber_open("e/*", NULL, &all));
    CHECK(conduit_pattern_subscriber_try_recv_event(all, &sample, &event) == CONDUIT_NO_MESSAGE && event == NULL);
    FAILS(conduit_pattern_subscriber_recv_event(all, 0, &sample, &event), CONDUIT_ERROR_TIMED_OUT, "\"e/*\"");
    for (uint32_t epoch = 1; epoch <= 2; epoch++) {
        conduit_publisher *publisher = publisher_of("e/numbers");
        event = event_of(all, &sample, CONDUIT_PATTERN_CONNECTED, "e/numbers");
        CHECK(event->pid > 1 && event->program != NULL && event->reason == NULL);
        send_number(publisher, 7);
        event = event_of(all, &sample, CONDUIT_PATTERN_MESSAGE, "e/numbers");
        CHECK(*(const int *)sample.data == 7 && event->epoch == epoch);
        OK(conduit_sample_release(&sample));
        OK(conduit_publisher_close(publisher));
        event = event_of(all, &sample, CONDUIT_PATTERN_LOST, "e/numbers");
        CHECK(!event->died && !event->has_death && event->exit_code == -1 && event->signal == 0);
    }
    conduit_publisher *poses;
    OK(conduit_publisher_create("e/poses", &typed, &poses));
    event = event_of(all, &sample, CONDUIT_PATTERN_NOT_FOLLOWED, "e/poses");
    CHECK(strstr(event->reason, "has messages of type Pose") != NULL);
    FAILS(conduit_pattern_subscriber_recv_event(all, 1000000, &sample, &event), CONDUIT_ERROR_TIMED_OUT, "\"e/*\"");
    OK(conduit_pattern_subscriber_close(all));
    /* As bytes. */
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.any_type = true;
    OK(conduit_pattern_subscriber_open("**", &options, &all));
    event_of(all, &sample, CONDUIT_PATTERN_CONNECTED, "e/poses");
    OK(conduit_pattern_subscriber_close(all));
    OK(conduit_publisher_close(poses));
}

/* Each topic has the deadline. */
static void silences(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.deadline_ns = 50000000;
    conduit_publisher *publisher = publisher_of("s/a");
    conduit_pattern_subscriber *all;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_pattern_subscriber_open("s/*", &options, &all));
    event_of(all, &sample, CONDUIT_PATTERN_CONNECTED, "s/a");
    CHECK(event_of(all, &sample, CONDUIT_PATTERN_OVERDUE, "s/a")->silence_ns >= 50000000);
    send_number(publisher, 7);
    CHECK(event_of(all, &sample, CONDUIT_PATTERN_RESUMED, "s/a")->silence_ns >= 50000000);
    event_of(all, &sample, CONDUIT_PATTERN_MESSAGE, "s/a");
    OK(conduit_sample_release(&sample));
    FAILS(conduit_pattern_subscriber_recv(all, CONDUIT_FOREVER, &sample, NULL), CONDUIT_ERROR_OVERDUE, "\"s/a\"");
    OK(conduit_pattern_subscriber_close(all));
    OK(conduit_publisher_close(publisher));
}

static bool is_readable(int descriptor, int timeout_ms) {
    struct pollfd waited = {descriptor, POLLIN, 0};
    return poll(&waited, 1, timeout_ms) == 1;
}

static void waiting(void) {
    conduit_publisher *publisher = publisher_of("w/a");
    conduit_pattern_subscriber *all;
    conduit_wait_set *set;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_event event;
    uint64_t token;
    size_t count;
    int descriptor;
    OK(conduit_pattern_subscriber_open("w/*", NULL, &all));
    OK(conduit_wait_set_create(&set));
    OK(conduit_wait_set_add_all(set, all, &token));
    OK(conduit_pattern_subscriber_ready_fd(all, &descriptor));
    for (int number = 0; number < 3; number++) {
        CHECK(conduit_pattern_subscriber_try_recv(all, &sample, NULL) == CONDUIT_NO_MESSAGE);
        CHECK(!is_readable(descriptor, 0));
        OK(conduit_wait_set_wait(set, 0, &event, 1, &count));
        CHECK(count == 0);
        send_number(publisher, number);
        CHECK(is_readable(descriptor, 60000));
        OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, &event, 1, &count));
        CHECK(count == 1 && event.kind == CONDUIT_EVENT_READY && event.token == token);
        OK(conduit_pattern_subscriber_try_recv(all, &sample, NULL));
        CHECK(*(const int *)sample.data == number);
        OK(conduit_sample_release(&sample));
    }
    OK(conduit_wait_set_close(set));
    OK(conduit_pattern_subscriber_close(all));
    OK(conduit_publisher_close(publisher));
}

static void misuse(void) {
    conduit_pattern_subscriber *all = (conduit_pattern_subscriber *)&all;
    FAILS(conduit_pattern_subscriber_open("tf//x", NULL, &all), CONDUIT_ERROR_INVALID_ARGUMENT, "invalid at byte 3");
    CHECK(all == NULL);
    FAILS(conduit_pattern_subscriber_open(NULL, NULL, &all), CONDUIT_ERROR_INVALID_ARGUMENT, "pattern");
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_pattern_event *event;
    uint64_t token;
    size_t count;
    int descriptor;
    FAILS(conduit_pattern_subscriber_recv(NULL, 0, &sample, NULL), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_pattern_subscriber_try_recv(NULL, &sample, NULL), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_pattern_subscriber_recv_event(NULL, 0, &sample, &event), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_pattern_subscriber_try_recv_event(NULL, &sample, &event), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_pattern_subscriber_sources(NULL, &count), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    FAILS(conduit_pattern_subscriber_ready_fd(NULL, &descriptor), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    SAYS(conduit_pattern_subscriber_received(NULL), 0, "NULL");
    SAYS(conduit_pattern_subscriber_source(NULL, 0), NULL, "NULL");
    SAYS(conduit_pattern_subscriber_pattern(NULL), NULL, "NULL");
    conduit_wait_set *set;
    OK(conduit_wait_set_create(&set));
    FAILS(conduit_wait_set_add_all(set, NULL, &token), CONDUIT_ERROR_INVALID_HANDLE, "NULL");
    OK(conduit_wait_set_close(set));
    OK(conduit_pattern_subscriber_open("m/*", NULL, &all));
    OK(conduit_pattern_subscriber_close(all));
    FAILS(conduit_pattern_subscriber_close(all), CONDUIT_ERROR_INVALID_HANDLE, "closed");
    OK(conduit_pattern_subscriber_close(NULL));
}

int main(void) {
    messages();
    events();
    silences();
    waiting();
    misuse();
    wait_for_threads();
    return 0;
}

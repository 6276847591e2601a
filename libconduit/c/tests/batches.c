/* Many messages in one call, and messages that are lent to a function. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

static const conduit_type tick_type = {"test/Tick", CONDUIT_VALUE, _Alignof(uint64_t), sizeof(uint64_t)};

static conduit_publisher *create_ticks(const char *name, uint32_t slots) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &tick_type;
    options.slots = slots;
    conduit_publisher *publisher;
    OK(conduit_publisher_create(name, &options, &publisher));
    return publisher;
}

static conduit_subscriber *open_ticks(const char *name, bool copies) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &tick_type;
    options.copy_samples = copies;
    conduit_subscriber *subscriber;
    OK(conduit_subscriber_open(name, &options, &subscriber));
    return subscriber;
}

/* What a callback has seen. */
typedef struct {
    uint64_t sum, lost, next;
    size_t calls;
} Seen;

static void see(void *context, const conduit_lent_message *message) {
    Seen *seen = context;
    CHECK(message->size == sizeof(uint64_t) && (uintptr_t)message->data % 32 == 0 && message->stamp_ns != 0);
    CHECK(message->sequence == seen->next + message->lost);
    seen->next = message->sequence + 1;
    seen->sum += *(const uint64_t *)message->data;
    seen->lost += message->lost;
    seen->calls += 1;
}

static void sent_and_received(bool copies) {
    conduit_publisher *publisher = create_ticks("ticks", 64);
    conduit_subscriber *subscriber = open_ticks("ticks", copies);
    CHECK(conduit_subscriber_is_zero_copy(subscriber) == !copies);
    uint64_t ticks[200];
    for (uint64_t i = 0; i < 200; i++) {
        ticks[i] = i;
    }
    Seen seen = {0};
    size_t sent, count = 9;
    CHECK(conduit_subscriber_try_recv_batch(subscriber, 10, see, &seen, &count) == CONDUIT_NO_MESSAGE && count == 0);
    CHECK(conduit_subscriber_try_recv_with(subscriber, see, &seen) == CONDUIT_NO_MESSAGE && seen.calls == 0);

    OK(conduit_publisher_send_array(publisher, ticks, sizeof ticks[0], 50, &sent));
    CHECK(sent == 50 && conduit_publisher_published(publisher) == 50);
    OK(conduit_subscriber_try_recv_batch(subscriber, 0, see, &seen, &count));
    CHECK(count == 0);
    OK(conduit_subscriber_try_recv_batch(subscriber, 20, see, &seen, &count));
    CHECK(count == 20 && seen.calls == 20 && seen.sum == 190);
    OK(conduit_subscriber_try_recv_with(subscriber, see, &seen));
    CHECK(seen.calls == 21 && seen.sum == 210);
    OK(conduit_subscriber_recv_with(subscriber, CONDUIT_FOREVER, see, &seen));
    OK(conduit_subscriber_recv_with(subscriber, 0, see, &seen));
    OK(conduit_subscriber_recv_batch(subscriber, CONDUIT_FOREVER, SIZE_MAX, see, &seen, &count));
    CHECK(count == 27 && seen.calls == 50 && seen.sum == 50 * 49 / 2 && seen.lost == 0);
    FAILS(conduit_subscriber_recv_with(subscriber, 1000000, see, &seen), CONDUIT_ERROR_TIMED_OUT, "within 1ms");
    FAILS(conduit_subscriber_recv_batch(subscriber, 0, 5, see, &seen, &count), CONDUIT_ERROR_TIMED_OUT, "ticks");
    CHECK(count == 0 && seen.calls == 50);

    /* More than there are slots: nothing stops the publisher, and loss is counted. */
    OK(conduit_publisher_send_array(publisher, ticks, sizeof ticks[0], 200, &sent));
    CHECK(sent == 200);
    OK(conduit_subscriber_try_recv_batch(subscriber, SIZE_MAX, see, &seen, &count));
    CHECK(count + seen.lost == 200 && seen.lost >= 200 - 64 && conduit_subscriber_lost(subscriber) == seen.lost);
    CHECK(conduit_subscriber_received(subscriber) == 50 + count);
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static void append(void *context, const conduit_lent_message *message) {
    strncat(context, message->data, message->size);
    strcat(context, ",");
}

static void of_any_length(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("texts", NULL, &publisher));
    OK(conduit_subscriber_open("texts", NULL, &subscriber));
    char text[64] = "";
    size_t sent, count, capacity = conduit_publisher_capacity(publisher);
    const conduit_message messages[] = {{"one", 3}, {NULL, 0}, {"three", 5}, {text, capacity + 1}, {"five", 4}};
    OK(conduit_publisher_send_batch(publisher, messages, 5, &sent));
    CHECK(sent == 3 && conduit_publisher_published(publisher) == 3);
    FAILS(conduit_publisher_send_batch(publisher, messages + 3, 2, &sent), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "does not fit");
    CHECK(sent == 0);
    OK(conduit_publisher_send_batch(publisher, messages + 4, 1, &sent));
    OK(conduit_subscriber_try_recv_batch(subscriber, SIZE_MAX, append, text, &count));
    CHECK(count == 4 && same(text, "one,,three,five,"));
    OK(conduit_publisher_send_array(publisher, NULL, 0, 3, &sent));
    CHECK(sent == 3);
    text[0] = '\0';
    OK(conduit_subscriber_try_recv_batch(subscriber, SIZE_MAX, append, text, &count));
    CHECK(count == 3 && same(text, ",,,"));
    OK(conduit_publisher_send_batch(publisher, NULL, 0, &sent));
    OK(conduit_publisher_send_array(publisher, NULL, 7, 0, &sent));
    CHECK(sent == 0);
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static void misuse(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    conduit_publisher *publisher = create_ticks("misuse", 4);
    conduit_subscriber *subscriber = open_ticks("misuse", false);
    uint64_t ticks[3] = {1, 2, 3};
    conduit_message messages[2] = {{&ticks[0], sizeof ticks[0]}, {NULL, sizeof ticks[0]}};
    size_t sent = 7, count = 7;
    Seen seen = {0};
    void *data;
    FAILS(conduit_publisher_send_batch(NULL, messages, 1, &sent), handle, "publisher is NULL");
    CHECK(sent == 0);
    FAILS(conduit_publisher_send_batch(publisher, messages, 1, NULL), invalid, "`sent` is NULL");
    FAILS(conduit_publisher_send_batch(publisher, NULL, 1, &sent), invalid, "`messages` is NULL");
    FAILS(conduit_publisher_send_batch(publisher, (void *)((char *)messages + 1), 1, &sent), invalid, "not aligned to 8");
    FAILS(conduit_publisher_send_batch(publisher, messages, SIZE_MAX / 8, &sent), invalid, "no array has");
    /* None is sent, not even the first, which is valid. */
    FAILS(conduit_publisher_send_batch(publisher, messages, 2, &sent), invalid, "`data` is NULL");
    messages[1] = (conduit_message){ticks, SIZE_MAX};
    FAILS(conduit_publisher_send_batch(publisher, messages, 2, &sent), invalid, "bytes");
    FAILS(conduit_publisher_send_array(NULL, ticks, 8, 3, &sent), handle, "publisher is NULL");
    FAILS(conduit_publisher_send_array(publisher, NULL, 8, 3, &sent), invalid, "`data` is NULL");
    FAILS(conduit_publisher_send_array(publisher, ticks, 8, 3, NULL), invalid, "`sent` is NULL");
    FAILS(conduit_publisher_send_array(publisher, ticks, SIZE_MAX / 2, 3, &sent), invalid, "bytes");
    FAILS(conduit_publisher_send_array(publisher, ticks, 7, 3, &sent), CONDUIT_ERROR_WRONG_LENGTH, "whose length is 8 bytes");
    CHECK(sent == 0 && conduit_publisher_published(publisher) == 0);
    OK(conduit_publisher_loan(publisher, 8, &data));
    FAILS(conduit_publisher_send_array(publisher, ticks, 8, 3, &sent), CONDUIT_ERROR_LOAN_OUT, "publish or discard");
    FAILS(conduit_publisher_send_batch(publisher, messages, 1, &sent), CONDUIT_ERROR_LOAN_OUT, "publish or discard");
    OK(conduit_publisher_discard(publisher));

    OK(conduit_publisher_send_array(publisher, ticks, 8, 3, &sent));
    FAILS(conduit_subscriber_try_recv_with(NULL, see, &seen), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_recv_with(NULL, 0, see, &seen), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_try_recv_with(subscriber, NULL, &seen), invalid, "`read` is NULL");
    FAILS(conduit_subscriber_recv_with(subscriber, 0, NULL, &seen), invalid, "`read` is NULL");
    FAILS(conduit_subscriber_try_recv_batch(NULL, 1, see, &seen, &count), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_try_recv_batch(subscriber, 1, NULL, &seen, &count), invalid, "`read` is NULL");
    FAILS(conduit_subscriber_try_recv_batch(subscriber, 1, see, &seen, NULL), invalid, "`count` is NULL");
    FAILS(conduit_subscriber_recv_batch(subscriber, 0, 1, NULL, &seen, &count), invalid, "`read` is NULL");
    FAILS(conduit_subscriber_recv_batch(subscriber, 0, 1, see, &seen, NULL), invalid, "`count` is NULL");
    CHECK(seen.calls == 0 && conduit_subscriber_received(subscriber) == 0);
    OK(conduit_subscriber_try_recv_batch(subscriber, 9, see, &seen, &count));
    CHECK(count == 3 && seen.sum == 6);
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
}

/* A function that is called back uses the handle that calls it. */
static void use_the_caller(void *context, const conduit_lent_message *message) {
    conduit_subscriber *subscriber = context;
    const conduit_error busy = CONDUIT_ERROR_BUSY;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    FAILS(conduit_subscriber_try_recv(subscriber, &sample), busy, "is calling back");
    FAILS(conduit_subscriber_try_recv_with(subscriber, use_the_caller, context), busy, "is calling back");
    FAILS(conduit_subscriber_close(subscriber), busy, "is calling back");
    SAYS(conduit_subscriber_topic(subscriber), NULL, "is calling back");
    FAILS(conduit_publisher_close((conduit_publisher *)context), CONDUIT_ERROR_INVALID_HANDLE, "not the handle of a publisher");
    /* Other handles are free. */
    conduit_subscriber *other = open_ticks("callback", false);
    CHECK(conduit_subscriber_try_recv(other, &sample) == CONDUIT_NO_MESSAGE && message->size == 8);
    OK(conduit_subscriber_close(other));
}

/* A child is forked while its parent's handle is in use. */
static void fork_inside(void *context, const conduit_lent_message *message) {
    (void)message;
    pid_t child = fork();
    if (child == 0) {
        FAILS(conduit_subscriber_close(context), CONDUIT_ERROR_BUSY, "is calling back");
        return;
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void called_back(void) {
    conduit_publisher *publisher = create_ticks("callback", 4);
    conduit_subscriber *subscriber = open_ticks("callback", false);
    uint64_t ticks[3] = {1, 2, 3};
    size_t sent, count;
    OK(conduit_publisher_send_array(publisher, ticks, 8, 3, &sent));
    OK(conduit_subscriber_try_recv_with(subscriber, use_the_caller, subscriber));
    OK(conduit_subscriber_try_recv_batch(subscriber, 1, use_the_caller, subscriber, &count));
    CHECK(same(conduit_subscriber_topic(subscriber), "callback"));
    const pid_t parent = getpid();
    OK(conduit_subscriber_recv_with(subscriber, 0, fork_inside, subscriber));
    if (getpid() != parent) {
        SAYS(conduit_subscriber_topic(subscriber), NULL, "forked");
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_publisher_close(publisher));
        _exit(0);
    }
    OK(conduit_publisher_close(publisher));
    FAILS(conduit_subscriber_try_recv_with(subscriber, use_the_caller, subscriber), CONDUIT_ERROR_PUBLISHER_CLOSED, "closed");
    OK(conduit_subscriber_close(subscriber));
}

static void ends_when_killed(pid_t child) {
    int status;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

static void wait_for_line(const int ends[2]) {
    char line;
    close(ends[1]);
    CHECK(read(ends[0], &line, 1) == 1);
    close(ends[0]);
}

static void publisher_killed(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        size_t sent;
        conduit_publisher *publisher = create_ticks("killed", 16);
        for (size_t count = 0; count == 0;) {
            OK(conduit_publisher_subscribers(publisher, &count));
            if (count == 0 && write(ends[1], "x", 1) == 1) {
                usleep(1000);
            }
        }
        OK(conduit_publisher_send_array(publisher, (uint64_t[5]){1, 2, 3, 4, 5}, 8, 5, &sent));
        pause();
    }
    wait_for_line(ends);
    conduit_subscriber *subscriber = open_ticks("killed", false);
    Seen seen = {0};
    size_t count;
    OK(conduit_subscriber_recv_with(subscriber, CONDUIT_FOREVER, see, &seen));
    ends_when_killed(child);
    /* The rest is received, and then the death. */
    while (seen.calls < 5) {
        OK(conduit_subscriber_recv_batch(subscriber, CONDUIT_FOREVER, 3, see, &seen, &count));
    }
    CHECK(seen.sum == 15);
    FAILS(conduit_subscriber_recv_batch(subscriber, CONDUIT_FOREVER, 3, see, &seen, &count), CONDUIT_ERROR_PUBLISHER_DIED, "died");
    FAILS(conduit_subscriber_recv_with(subscriber, CONDUIT_FOREVER, see, &seen), CONDUIT_ERROR_PUBLISHER_DIED, "died");
    conduit_error code;
    while ((code = conduit_subscriber_try_recv_batch(subscriber, 3, see, &seen, &count)) == CONDUIT_NO_MESSAGE) {
        usleep(1000);
    }
    CHECK(code == CONDUIT_ERROR_PUBLISHER_DIED);
    while ((code = conduit_subscriber_try_recv_with(subscriber, see, &seen)) == CONDUIT_NO_MESSAGE) {
        usleep(1000);
    }
    CHECK(code == CONDUIT_ERROR_PUBLISHER_DIED);
    CHECK(seen.calls == 5 && count == 0);
    uint64_t tick;
    conduit_copied copied;
    FAILS(conduit_subscriber_recv_copy(subscriber, CONDUIT_FOREVER, &tick, 8, &copied), CONDUIT_ERROR_PUBLISHER_DIED, "died");
    OK(conduit_subscriber_close(subscriber));
    /* What the dead left. */
    OK(conduit_publisher_close(create_ticks("killed", 16)));
}

static void hold_forever(void *context, const conduit_lent_message *message) {
    (void)message;
    const int *ends = context;
    CHECK(write(ends[1], "x", 1) == 1);
    pause();
}

/* A subscriber that is killed in its function holds a slot until the publisher notices its death. */
static void subscriber_killed(void) {
    int opened[2], held[2];
    CHECK(pipe(opened) == 0 && pipe(held) == 0);
    conduit_publisher *publisher = create_ticks("reader", 2);
    pid_t child = fork();
    if (child == 0) {
        conduit_subscriber *subscriber = open_ticks("reader", false);
        CHECK(write(opened[1], "x", 1) == 1);
        OK(conduit_subscriber_recv_with(subscriber, CONDUIT_FOREVER, hold_forever, held));
    }
    wait_for_line(opened);
    size_t sent;
    OK(conduit_publisher_send_array(publisher, (uint64_t[1]){1}, 8, 1, &sent));
    wait_for_line(held);
    OK(conduit_publisher_send_array(publisher, (uint64_t[3]){2, 3, 4}, 8, 3, &sent));
    CHECK(sent == 3);
    ends_when_killed(child);
    conduit_subscriber *subscriber = open_ticks("reader", false);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    /* A sample in one slot, and the dead in the other: it is taken back. */
    OK(conduit_publisher_send_array(publisher, (uint64_t[1]){5}, 8, 1, &sent));
    OK(conduit_subscriber_recv(subscriber, &sample));
    OK(conduit_publisher_send_array(publisher, (uint64_t[2]){6, 7}, 8, 2, &sent));
    CHECK(sent == 2 && *(const uint64_t *)sample.data == 5);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

/* Copies into memory of the caller. */
static void copied(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("copied", NULL, &publisher));
    OK(conduit_subscriber_open("copied", NULL, &subscriber));
    char buffer[8] = ".......";
    conduit_copied copied = {.size = 7, .sequence = 7};
    CHECK(conduit_subscriber_try_recv_copy(subscriber, buffer, 8, &copied) == CONDUIT_NO_MESSAGE);
    CHECK(copied.size == 0 && copied.sequence == 0);
    FAILS(conduit_subscriber_recv_copy(subscriber, 0, buffer, 8, &copied), CONDUIT_ERROR_TIMED_OUT, "copied");
    OK(conduit_publisher_send(publisher, "one", 3));
    OK(conduit_publisher_send(publisher, "three", 5));
    OK(conduit_publisher_send(publisher, NULL, 0));
    OK(conduit_subscriber_try_recv_copy(subscriber, buffer, 3, &copied));
    CHECK(copied.size == 3 && copied.sequence == 0 && copied.lost == 0 && copied.stamp_ns != 0 && same(buffer, "one...."));
    OK(conduit_subscriber_recv_copy(subscriber, CONDUIT_FOREVER, buffer, 8, &copied));
    CHECK(copied.size == 5 && copied.sequence == 1 && same(buffer, "three.."));
    OK(conduit_subscriber_recv_copy(subscriber, 0, NULL, 0, &copied));
    CHECK(copied.size == 0 && copied.sequence == 2);

    /* One that does not fit counts as received. */
    OK(conduit_publisher_send(publisher, "too long", 9));
    FAILS(conduit_subscriber_try_recv_copy(subscriber, buffer, 8, &copied), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "has 9 bytes, the buffer 8");
    CHECK(copied.size == 0 && conduit_subscriber_received(subscriber) == 4);

    /* The newest: others are skipped. */
    CHECK(conduit_subscriber_latest_copy(subscriber, buffer, 8, &copied) == CONDUIT_NO_MESSAGE);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    CHECK(conduit_subscriber_latest(subscriber, &sample) == CONDUIT_NO_MESSAGE);
    for (char c = 'a'; c <= 'z'; c++) {
        OK(conduit_publisher_send(publisher, &c, 1));
    }
    OK(conduit_subscriber_latest_copy(subscriber, buffer, 8, &copied));
    CHECK(copied.size == 1 && copied.sequence == 29 && copied.lost == 0 && buffer[0] == 'z');
    CHECK(conduit_subscriber_skipped(subscriber) == 25 && conduit_subscriber_lost(subscriber) == 0);
    OK(conduit_publisher_send(publisher, "a", 1));
    OK(conduit_publisher_send(publisher, "b", 1));
    OK(conduit_subscriber_latest(subscriber, &sample));
    CHECK(*(const char *)sample.data == 'b' && sample.lost == 0 && conduit_subscriber_skipped(subscriber) == 26);
    FAILS(conduit_subscriber_latest(subscriber, &sample), CONDUIT_ERROR_SAMPLE_HELD, "release it");
    OK(conduit_sample_release(&sample));

    FAILS(conduit_subscriber_try_recv_copy(NULL, buffer, 8, &copied), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_try_recv_copy(subscriber, NULL, 8, &copied), invalid, "`buffer` is NULL");
    FAILS(conduit_subscriber_try_recv_copy(subscriber, buffer, SIZE_MAX, &copied), invalid, "no object has");
    FAILS(conduit_subscriber_try_recv_copy(subscriber, buffer, 8, NULL), invalid, "`copied` is NULL");
    FAILS(conduit_subscriber_recv_copy(NULL, 0, buffer, 8, &copied), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_recv_copy(subscriber, 0, NULL, 8, &copied), invalid, "`buffer` is NULL");
    FAILS(conduit_subscriber_latest_copy(NULL, buffer, 8, &copied), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_latest_copy(subscriber, buffer, 8, NULL), invalid, "`copied` is NULL");
    FAILS(conduit_subscriber_latest(NULL, &sample), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_latest(subscriber, NULL), invalid, "`sample` is NULL");
    SAYS(conduit_subscriber_skipped(NULL), 0, "subscriber is NULL");
    OK(conduit_publisher_close(publisher));
    FAILS(conduit_subscriber_recv_copy(subscriber, CONDUIT_FOREVER, buffer, 8, &copied), CONDUIT_ERROR_PUBLISHER_CLOSED, "closed");
    OK(conduit_subscriber_close(subscriber));
}

static uint64_t first_of(const char *topic, conduit_start start, uint32_t last, conduit_error *code) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &tick_type;
    options.start = start;
    options.last = last;
    conduit_subscriber *subscriber;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    uint64_t tick = 0;
    OK(conduit_subscriber_open(topic, &options, &subscriber));
    *code = conduit_subscriber_try_recv(subscriber, &sample);
    if (*code == CONDUIT_OK) {
        tick = *(const uint64_t *)sample.data;
        OK(conduit_sample_release(&sample));
    }
    OK(conduit_subscriber_close(subscriber));
    return tick;
}

static void starts(void) {
    conduit_publisher *publisher = create_ticks("starts", 8);
    conduit_error code;
    size_t sent;
    CHECK(first_of("starts", CONDUIT_START_LAST, 3, &code) == 0 && code == CONDUIT_NO_MESSAGE);
    OK(conduit_publisher_send_array(publisher, (uint64_t[5]){1, 2, 3, 4, 5}, 8, 5, &sent));
    CHECK(first_of("starts", CONDUIT_START_LAST, 3, &code) == 3 && code == CONDUIT_OK);
    CHECK(first_of("starts", CONDUIT_START_LAST, 1, &code) == 5 && code == CONDUIT_OK);
    CHECK(first_of("starts", CONDUIT_START_LAST, 99, &code) == 1 && code == CONDUIT_OK);
    CHECK(first_of("starts", CONDUIT_START_LAST, 0, &code) == 0 && code == CONDUIT_NO_MESSAGE);
    CHECK(first_of("starts", CONDUIT_START_LATEST, 99, &code) == 5 && code == CONDUIT_OK);
    OK(conduit_publisher_close(publisher));
}

/* Large messages, whose publisher reuses the newest slots. */
static void retained(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.capacity = 1 << 20;
    options.slots = 8;
    for (uint32_t retain = 0; retain <= 5; retain += 5) {
        options.retain = retain;
        conduit_publisher *publisher;
        OK(conduit_publisher_create("retained", &options, &publisher));
        for (uint64_t i = 0; i < 20; i++) {
            OK(conduit_publisher_send(publisher, &i, sizeof i));
        }
        conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
        reading.start = CONDUIT_START_OLDEST;
        conduit_subscriber *subscriber;
        conduit_sample sample = CONDUIT_SAMPLE_INIT;
        OK(conduit_subscriber_open("retained", &reading, &subscriber));
        OK(conduit_subscriber_try_recv(subscriber, &sample));
        CHECK(20 - sample.sequence >= (retain == 0 ? 1 : retain));
        if (retain == 0) {
            CHECK(20 - sample.sequence < 5);
        }
        OK(conduit_sample_release(&sample));
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_publisher_close(publisher));
    }
}

static void many_subscribers(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    conduit_publisher *publisher;
    options.max_subscribers = 1025;
    FAILS(conduit_publisher_create("many", &options, &publisher), CONDUIT_ERROR_SLOTS, "1025");
    options.max_subscribers = 70000;
    FAILS(conduit_publisher_create("many", &options, &publisher), CONDUIT_ERROR_SLOTS, "70000");
    options.max_subscribers = 62;
    options.no_prefault = true;
    OK(conduit_publisher_create("many", &options, &publisher));
    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    reading.copy_samples = true;
    reading.no_prefault = true;
    conduit_subscriber *subscribers[62], *another;
    for (int i = 0; i < 62; i++) {
        OK(conduit_subscriber_open("many", &reading, &subscribers[i]));
    }
    FAILS(conduit_subscriber_open("many", &reading, &another), CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS, "62 are attached");
    for (int i = 0; i < 62; i++) {
        OK(conduit_subscriber_close(subscribers[i]));
    }
    OK(conduit_publisher_close(publisher));
}

int main(void) {
    sent_and_received(false);
    sent_and_received(true);
    of_any_length();
    misuse();
    called_back();
    publisher_killed();
    subscriber_killed();
    copied();
    starts();
    retained();
    many_subscribers();
    wait_for_threads();
    return 0;
}

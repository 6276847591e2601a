/* Asks a registry, which the test plays, and watches it. */
#include "check.h"

#include <poll.h>
#include <signal.h>
#include <stdint.h>

static void is_the_death(const conduit_reported *event) {
    CHECK(event->kind == CONDUIT_REPORTED_DIED && same(event->topic, "camera/front") && event->time_ms == 1700000000123);
    CHECK(same(event->program, "driver") && event->pid == 42 && event->uid == 9 && event->has_death);
    CHECK(event->exit_code == -1 && event->signal == 11 && event->core_dumped && event->last_sequence == 77);
    CHECK(event->last_message_age_ns == 88 && event->subscribers == 1);
    const conduit_subscriber_info *one = event->subscriber_list[0];
    CHECK(one->pid == 43 && one->lost == 2 && same(one->program, "planner"));
}

static void asked(void) {
    conduit_registry *registry;
    const conduit_registry_info *info;
    const conduit_topic *topic;
    const conduit_reported *const *deaths;
    bool was_orphan = false;
    size_t count;
    OK(conduit_registry_open(NULL, &registry));
    OK(conduit_registry_status(registry, &info));
    CHECK(same(info->version, "1") && same(info->shm_dir, "/") && info->pid == 17 && info->uid == 3 && info->topics == 5);
    CHECK(info->clients == 6 && info->reaped == 7 && info->untracked == 8 && info->is_supervised);
    OK(conduit_registry_describe(registry, "imu", &topic));
    CHECK(same(topic->name, "imu") && topic->publisher_pid == 4242 && topic->subscriber_list[0]->pid == 43);
    OK(conduit_registry_reap(registry, "imu", &was_orphan));
    CHECK(was_orphan);
    OK(conduit_registry_unlink(registry, "imu", true));
    FAILS(conduit_registry_unlink(registry, "imu", false), CONDUIT_ERROR_LIVE, "is live");
    OK(conduit_registry_deaths(registry, &deaths, &count));
    CHECK(count == 2 && deaths[0]->kind == CONDUIT_REPORTED_PRESENT && !deaths[0]->has_death);
    is_the_death(deaths[1]);
    /* What was returned before is as it was. */
    CHECK(info->pid == 17 && same(topic->name, "imu"));
    FAILS(conduit_registry_describe(registry, "nothing", &topic), CONDUIT_ERROR_NOT_FOUND, "no topic \"nothing\"");
    CHECK(topic == NULL);
    FAILS(conduit_registry_reap(registry, "nothing", &was_orphan), CONDUIT_ERROR_NOT_FOUND, "nothing");
    CHECK(!was_orphan);
    FAILS(conduit_registry_unlink(registry, "a b", true), CONDUIT_ERROR_NAME, "byte 1");

    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    FAILS(conduit_registry_open(NULL, NULL), invalid, "`registry` is NULL");
    FAILS(conduit_registry_status(NULL, &info), handle, "registry is NULL");
    FAILS(conduit_registry_status(registry, NULL), invalid, "`status` is NULL");
    FAILS(conduit_registry_describe(NULL, "imu", &topic), handle, "registry is NULL");
    FAILS(conduit_registry_describe(registry, NULL, &topic), invalid, "`name` is NULL");
    FAILS(conduit_registry_describe(registry, "imu", NULL), invalid, "`topic` is NULL");
    FAILS(conduit_registry_reap(registry, "imu", NULL), invalid, "`was_orphan` is NULL");
    FAILS(conduit_registry_reap(NULL, "imu", &was_orphan), handle, "registry is NULL");
    FAILS(conduit_registry_unlink(NULL, "imu", false), handle, "registry is NULL");
    FAILS(conduit_registry_deaths(NULL, &deaths, &count), handle, "registry is NULL");
    FAILS(conduit_registry_deaths(registry, NULL, &count), invalid, "`deaths` is NULL");
    FAILS(conduit_registry_deaths(registry, &deaths, NULL), invalid, "`count` is NULL");
    OK(conduit_registry_close(registry));
    FAILS(conduit_registry_close(registry), handle, "it was closed");
    OK(conduit_registry_close(NULL));
    conduit_domain nobody = CONDUIT_DOMAIN_INIT;
    nobody.socket = "";
    FAILS(conduit_registry_open(&nobody, &registry), CONDUIT_ERROR_NO_REGISTRY, "no registry");
    CHECK(registry == NULL);
}

static bool is_readable(int descriptor, int timeout_ms) {
    struct pollfd waiting = {.fd = descriptor, .events = POLLIN};
    CHECK(poll(&waiting, 1, timeout_ms) >= 0);
    return waiting.revents != 0;
}

static void watched(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    const uint64_t kinds = UINT64_C(1) << CONDUIT_REPORTED_PRESENT | UINT64_C(1) << CONDUIT_REPORTED_DIED;
    conduit_watch *watch;
    const conduit_reported *event;
    FAILS(conduit_watch_open(NULL, "camera//raw", kinds, &watch), invalid, "byte 7");
    FAILS(conduit_watch_open(NULL, NULL, UINT64_C(1) << CONDUIT_REPORTED_UNKNOWN, &watch), invalid, "kinds of events 0x2000");
    FAILS(conduit_watch_open(NULL, "camera/**", kinds, NULL), invalid, "`watch` is NULL");
    FAILS(conduit_watch_next(NULL, 0, &event), handle, "watch is NULL");
    FAILS(conduit_watch_try_next(NULL, &event), handle, "watch is NULL");
    SAYS(conduit_watch_fd(NULL), -1, "watch is NULL");
    OK(conduit_watch_open(NULL, "camera/**", kinds, &watch));
    FAILS(conduit_watch_next(watch, 0, NULL), invalid, "`event` is NULL");
    const int descriptor = conduit_watch_fd(watch);
    CHECK(descriptor > 2);
    OK(conduit_watch_next(watch, CONDUIT_FOREVER, &event));
    CHECK(event->kind == CONDUIT_REPORTED_PRESENT && event->pid == 42 && !event->has_death && event->time_ms == 0);
    OK(conduit_watch_next(watch, UINT64_C(60000000000), &event));
    is_the_death(event);
    /* The next is yet to come, and comes in two parts. */
    FAILS(conduit_watch_next(watch, 0, &event), CONDUIT_ERROR_TIMED_OUT, "nothing has happened");
    conduit_stop *stop, *other;
    OK(conduit_stop_create(&stop));
    OK(conduit_watch_stop(watch, stop));
    OK(conduit_stop_stop(stop));
    FAILS(conduit_watch_next(watch, CONDUIT_FOREVER, &event), CONDUIT_ERROR_STOPPED, "was stopped");
    CHECK(conduit_watch_try_next(watch, &event) == CONDUIT_NO_MESSAGE && event == NULL);
    OK(conduit_stop_create(&other));
    OK(conduit_watch_stop(watch, other));
    FAILS(conduit_watch_stop(watch, NULL), handle, "a stop");
    OK(conduit_stop_close(stop));
    OK(conduit_stop_close(other));
    CHECK(event == NULL && conduit_watch_try_next(watch, &event) == CONDUIT_NO_MESSAGE);
    conduit_error code;
    do {
        CHECK(is_readable(descriptor, 60000));
        code = conduit_watch_try_next(watch, &event);
    } while (code == CONDUIT_NO_MESSAGE);
    CHECK(code == CONDUIT_OK && event->kind == CONDUIT_REPORTED_UNKNOWN && same(event->topic, "camera/front"));
    /* One that is not understood, and the end of the registry. */
    FAILS(conduit_watch_next(watch, CONDUIT_FOREVER, &event), CONDUIT_ERROR_REGISTRY, "not understood");
    CHECK(signal(SIGPIPE, SIG_DFL) == SIG_DFL);
    FAILS(conduit_watch_next(watch, CONDUIT_FOREVER, &event), CONDUIT_ERROR_IO, "connection was closed");
    FAILS(conduit_watch_next(watch, CONDUIT_FOREVER, &event), CONDUIT_ERROR_IO, "connection was closed");
    FAILS(conduit_watch_try_next(watch, &event), CONDUIT_ERROR_IO, "connection was closed");
    CHECK(event == NULL && is_readable(descriptor, 0));
    OK(conduit_watch_close(watch));
    FAILS(conduit_watch_close(watch), handle, "it was closed");
    OK(conduit_watch_close(NULL));
}

int main(void) {
    asked();
    watched();
    return 0;
}

/* Checks that the tests share. They print where they failed, and the last error of the library. */
#ifndef CHECK_H
#define CHECK_H

#include <conduit.h>

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
                    conduit_last_error_message()); \
            exit(1); \
        } \
    } while (0)

#define OK(call) check_code((call), CONDUIT_OK, NULL, #call, __FILE__, __LINE__)

/* The call fails with this code and a message that contains these words. */
#define FAILS(call, code, words) check_code((call), (code), (words), #call, __FILE__, __LINE__)

/* The call returns this value for a failure, and its message contains these words. */
#define SAYS(call, nothing, words) \
    do { \
        CHECK((call) == (nothing)); \
        check_words((words), #call, __FILE__, __LINE__); \
    } while (0)

static inline void check_words(const char *words, const char *call, const char *file, int line) {
    const char *message = conduit_last_error_message();
    if (strstr(message, words) == NULL || strchr(message, '\n') != NULL) {
        fprintf(stderr, "%s:%d: %s says \"%s\", not \"%s\"\n", file, line, call, message, words);
        exit(1);
    }
}

static inline void check_code(conduit_error found, conduit_error expected, const char *words, const char *call,
                              const char *file, int line) {
    if (found != expected) {
        fprintf(stderr, "%s:%d: %s: %s, not %s: %s\n", file, line, call, conduit_error_name(found),
                conduit_error_name(expected), conduit_last_error_message());
        exit(1);
    }
    if (words != NULL) {
        check_words(words, call, file, line);
    }
}

static inline bool same(const char *a, const char *b) {
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Waits for the library's threads to end, which they do soon after what they wait for is closed. Valgrind takes what a
 * thread has at the end of the program for lost. */
static inline void wait_for_threads(void) {
    for (int threads = 0; threads != 1;) {
        DIR *tasks = opendir("/proc/self/task");
        CHECK(tasks != NULL);
        threads = 0;
        for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
            threads += entry->d_name[0] != '.';
        }
        closedir(tasks);
        sched_yield();
    }
}

#endif

# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_conduit_global_optspecs
    string join \n no-color h/help V/version
end

function __fish_conduit_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_conduit_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_conduit_using_subcommand
    set -l cmd (__fish_conduit_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c conduit -n "__fish_conduit_needs_command" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_needs_command" -s h -l help -d 'Print help'
complete -c conduit -n "__fish_conduit_needs_command" -s V -l version -d 'Print version'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "demo" -d 'See it work: stream large messages between processes, kill the publisher, start it again'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "list" -d 'List topics and raw regions'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "info" -d 'Show everything about one topic: who publishes it, who reads it, and what was lost'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "hz" -d 'Show how often topics are published'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "bw" -d 'Show how many bytes topics publish'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "delay" -d 'Show how long messages take from their publication to a subscriber that sleeps'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "type" -d 'Print the type of a topic\'s messages'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "find" -d 'Print the names of the topics whose messages are of a type'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "top" -d 'Watch all topics: rates, bandwidth, what subscribers lose and how far they are behind, and events as they happen'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "pub" -d 'Publish messages of raw bytes: lines of standard input, files, or a text'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "echo" -d 'Print the messages of a topic, of any type'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "wait" -d 'Wait until topics are there, or gone, or have subscribers'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "watch" -d 'Print a line for every topic that appears or goes and every subscriber that comes or leaves'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "deaths" -d 'Print how publishers died'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "rm" -d 'Remove topics or raw regions of this user; root removes anybody\'s'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "gc" -d 'Remove the regions of dead owners, and what killed removers left'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "doctor" -d 'Check this machine for Conduit: the daemon, the shared memory, the kernel, and what was left behind'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "bench" -d 'Measure latency and throughput on this machine, next to what the machine itself takes'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "completions" -d 'Print the completions of a shell'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "bench-second" -d 'Answers `conduit bench`'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "demo-publisher" -d 'Publishes for `conduit demo`'
complete -c conduit -n "__fish_conduit_needs_command" -f -a "demo-subscriber" -d 'Subscribes for `conduit demo`'
complete -c conduit -n "__fish_conduit_using_subcommand demo" -l file -d 'What to stream; by default a synthetic point cloud of 12 MB' -r -F
complete -c conduit -n "__fish_conduit_using_subcommand demo" -l messages -d 'How many messages to stream' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo" -l size -d 'Size of the synthetic point cloud' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo" -l json -d 'Print the results as a JSON object and nothing else'
complete -c conduit -n "__fish_conduit_using_subcommand demo" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand list" -s v -l verbose -d 'Show more columns: bandwidth, age of the last message, messages lost by all subscribers, liveness, path'
complete -c conduit -n "__fish_conduit_using_subcommand list" -s t -l show-types -d 'Print names and types only'
complete -c conduit -n "__fish_conduit_using_subcommand list" -s c -l count -d 'Print only how many there are'
complete -c conduit -n "__fish_conduit_using_subcommand list" -l json -d 'Print a JSON array with everything that is known of every topic, as `conduit info --json` describes it'
complete -c conduit -n "__fish_conduit_using_subcommand list" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand info" -s v -l verbose -d 'Show also the fields of the messages, who may read and write the file, and whom the last death found subscribed'
complete -c conduit -n "__fish_conduit_using_subcommand info" -l json -d 'Print a JSON object: what the registry\'s `Describe` gives (name, state, raw, path, size_bytes, slots, slot_bytes, type, publisher, liveness, published, rate_hz, bytes_per_second, last_message_age_ns, subscribers), and last_death and shape if there are any'
complete -c conduit -n "__fish_conduit_using_subcommand info" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand hz" -s w -l window -d 'How many messages of each topic count, the last ones' -r
complete -c conduit -n "__fish_conduit_using_subcommand hz" -s n -l count -d 'End after this many reports with news, one a second' -r
complete -c conduit -n "__fish_conduit_using_subcommand hz" -l json -d 'Print a JSON object per line: topic, rate_hz, bytes_per_second, window, interval_s and length_bytes (each with mean, min, max, std_dev; interval_s may be null)'
complete -c conduit -n "__fish_conduit_using_subcommand hz" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand hz" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand bw" -s w -l window -d 'How many messages of each topic count, the last ones' -r
complete -c conduit -n "__fish_conduit_using_subcommand bw" -s n -l count -d 'End after this many reports with news, one a second' -r
complete -c conduit -n "__fish_conduit_using_subcommand bw" -l json -d 'Print a JSON object per line: topic, rate_hz, bytes_per_second, window, interval_s and length_bytes (each with mean, min, max, std_dev; interval_s may be null)'
complete -c conduit -n "__fish_conduit_using_subcommand bw" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand bw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand delay" -s w -l window -d 'How many messages of each topic count, the last ones' -r
complete -c conduit -n "__fish_conduit_using_subcommand delay" -s n -l count -d 'End after this many reports with news, one a second' -r
complete -c conduit -n "__fish_conduit_using_subcommand delay" -l json -d 'Print a JSON object per line: topic, window, and delay_s (mean, min, max, std_dev)'
complete -c conduit -n "__fish_conduit_using_subcommand delay" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand delay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand type" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand type" -s h -l help -d 'Print help'
complete -c conduit -n "__fish_conduit_using_subcommand find" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand find" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand top" -s d -l interval -d 'Time between two looks, in seconds or with a unit, at least 0.1' -r
complete -c conduit -n "__fish_conduit_using_subcommand top" -l sort -d 'Sort by this column: numbers begin with the greatest' -r -f -a "name\t'Name of the topic'
state\t'State: live, closed, orphaned, kept, unauthorised, unlinked'
rate\t'Messages per second'
bandwidth\t'Bytes per second'
subscribers\t'Number of subscribers'
loss\t'Messages that subscribers lose per second'
lost\t'Messages that subscribers have lost'
lag\t'Messages that the last subscriber is behind'
behind\t'Time that the last subscriber is behind (99th percentile)'
interval\t'Interval between messages (99th percentile)'
publisher\t'Program that publishes'"
complete -c conduit -n "__fish_conduit_using_subcommand top" -l reverse -d 'Sort the other way round'
complete -c conduit -n "__fish_conduit_using_subcommand top" -l once -d 'Print one measurement, over one interval, as a table and end'
complete -c conduit -n "__fish_conduit_using_subcommand top" -l json -d 'Print it as a JSON object: time_ms, interval_s, registry (pid, version; null if there is none), totals (topics, live, orphaned, subscribers, rate_hz, bytes_per_second, lost_per_second) and topics, in their order'
complete -c conduit -n "__fish_conduit_using_subcommand top" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l file -d 'File to publish as one message; several are published in their order' -r -F
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l text -d 'Text to publish as one message' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -s r -l rate -d 'Messages per second; as fast as they come by default' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -s n -l count -d 'How often to publish the text or the files (once by default), or how many lines to read at most' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l slots -d 'Number of slots, a power of two' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l slot-size -d 'Size of a slot, a multiple of 64, of which 64 are its header; by default 4096, or what the text or files need' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -s w -l wait-matching-subscribers -d 'Publish nothing before this many subscribers are there' -r
complete -c conduit -n "__fish_conduit_using_subcommand pub" -s 1 -l once -d 'Publish the text, the files, or one line, and end'
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l keep -d 'Stay after the last message, until Ctrl-C, for those who subscribe later'
complete -c conduit -n "__fish_conduit_using_subcommand pub" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand pub" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -s n -l count -d 'End after this many messages' -r
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l field -d 'Print this part of the messages only: pose.position, gyro[2], [0].x' -r
complete -c conduit -n "__fish_conduit_using_subcommand echo" -s l -l truncate-length -d 'Elements of an array that are printed; the other formats than YAML have all' -r
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l from -d 'Where to start' -r -f -a "next\t'With the next message to be published'
latest\t'With the newest message there is'
oldest\t'With the oldest message there is'"
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l timeout -d 'Give up if no message comes for this long; also wait that long for the topic to appear' -r
complete -c conduit -n "__fish_conduit_using_subcommand echo" -s 1 -l once -d 'End after one message'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l raw -d 'Write the messages\' bytes to standard output and nothing else'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l hex -d 'Print all bytes as a dump, whatever they mean'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l json -d 'Print a JSON object per message: topic, sequence, lost (messages missed before it), stamp_ns (CLOCK_MONOTONIC) and age_ns (null without time stamps), len_bytes, type, and one of value (fields are known; numbers that are none are null), text (bytes that are UTF-8) and hex'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l csv -d 'Print a line of comma-separated values per message (per element if messages are lists), after one with the names: sequence, stamp_ns, and the values, or data'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -s f -l full-length -d 'Print all elements of arrays'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l no-lost-messages -d 'Do not say when messages were lost'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l follow -d 'Wait for the publisher, and for its return after it died or closed the topic; so it is on a terminal, once it was there'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l no-follow -d 'End with the publisher, also on a terminal'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand echo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand wait" -l subscribers -d 'Wait until each has at least this many subscribers' -r
complete -c conduit -n "__fish_conduit_using_subcommand wait" -l timeout -d 'Give up after this time: 5s, 500ms, 2m, or a number of seconds. Without it, never' -r
complete -c conduit -n "__fish_conduit_using_subcommand wait" -l gone -d 'Wait until none of them is there any more'
complete -c conduit -n "__fish_conduit_using_subcommand wait" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand watch" -l kind -d 'Only events of this kind (may be repeated): present, published, closed, died, subscribed, ...' -r
complete -c conduit -n "__fish_conduit_using_subcommand watch" -l json -d 'Print a JSON object for every event: kind, topic, time_ms (since the epoch), process (pid, uid, program) and death if they are known'
complete -c conduit -n "__fish_conduit_using_subcommand watch" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand deaths" -l json -d 'Print a JSON object for every death: kind (died), topic, time_ms (since the epoch), process (pid, uid, program), death (exit_code or signal, core_dumped, last_sequence, last_message_age_ns, subscribers)'
complete -c conduit -n "__fish_conduit_using_subcommand deaths" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand deaths" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand rm" -l force -d 'Also if the owner lives'
complete -c conduit -n "__fish_conduit_using_subcommand rm" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand gc" -l dry-run -d 'Say what would be removed, and why it may; remove nothing'
complete -c conduit -n "__fish_conduit_using_subcommand gc" -l json -d 'Print a JSON array: name, path, size_bytes, reason, removed, error'
complete -c conduit -n "__fish_conduit_using_subcommand gc" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand doctor" -l json -d 'Print a JSON object'
complete -c conduit -n "__fish_conduit_using_subcommand doctor" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand bench" -l time -d 'How long to measure, at least a second: 30, 30s, 1m' -r
complete -c conduit -n "__fish_conduit_using_subcommand bench" -l cores -d 'On which two cores to run the processes; by default on two physical cores, if there are' -r
complete -c conduit -n "__fish_conduit_using_subcommand bench" -l json -d 'Print the results as a JSON object and nothing else'
complete -c conduit -n "__fish_conduit_using_subcommand bench" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand completions" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -l parent -d 'Process id of the bench' -r
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -l directory -d 'Where the regions are' -r -F
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -l core -d 'Where to run' -r
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -l large -d 'Whether there are large messages'
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand bench-second" -s h -l help -d 'Print help'
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l parent -d 'Process id of the demo' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l payload -d 'File with the messages\' content' -r -F
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l first -d 'Index of the first message' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l messages -d 'How many messages to publish' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l stay -d 'Whether to stay (1) until killed or to close the topic (0)' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand demo-publisher" -s h -l help -d 'Print help'
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -l parent -d 'Process id of the demo' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -l payload -d 'File with the messages\' content' -r -F
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -l messages -d 'How many messages to receive before the publisher dies' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -l again -d 'How many messages to receive after it is back' -r
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -l no-color -d 'Print without colours; so does NO_COLOR in the environment, and whatever is not a terminal has none anyway'
complete -c conduit -n "__fish_conduit_using_subcommand demo-subscriber" -s h -l help -d 'Print help'

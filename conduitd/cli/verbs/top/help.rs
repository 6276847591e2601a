//! What `?` shows.

pub(super) const HELP: &str = "\
Keys
  Enter, →          open the selected topic         q, Esc, ←  back; q: quit
  ↑ ↓ PgUp PgDn Home End, j k g G                   move
  s >, S <          sort by the next, the previous column      r  reverse
  /                 only topics with this text in their name, or matching a glob
                    (* in a segment, ** across, ?, [a-z]); Esc shows all again
  p, space          pause              e  all events           Ctrl-L  draw anew
Columns
  RATE, B/S         messages and bytes per second, and the rate's HISTORY
  SUBS              subscribers
  LOST/S, LOST      messages that its subscribers lose a second, and have lost
  LAG               messages that were published and not received: the greatest
  BEHIND            how old the oldest message is that a subscriber has not yet
                    received, 0 when it has all: the last one's 99th percentile
  INTERVAL          time between two messages, 99th percentile
One topic
  P50, P99, MAX     percentiles of BEHIND
  HELD, SLEEP       messages it has borrowed now; whether it waits for the next
What this cannot know
  top never subscribes: it reads the regions from outside, and nobody notices.
  Only a subscriber can measure when a message reached it. BEHIND is what can be
  seen of that from outside, looked at 5 times a second, of an open topic 50
  times: shorter delays go unseen. Percentiles are of the last 30 to 60 seconds.
  Intervals are of the messages that were still there at a look, and of those
  that were not, the mean: a stall lasted at least as long. Rates are of the
  last --interval if 10 messages came in it, else of the last 1 to 2 s.
  States orphan, unauth, unlink: dead publisher, against the registry's rules,
  name removed by somebody; the pane of the topic says more.";

//! Receiving messages and what else happens to a topic, in order.

use std::ptr::null;
use std::time::Duration;

use conduit::TopicEvent;

use crate::error::ErrorCode::{self, CONDUIT_ERROR_INTERNAL, CONDUIT_NO_MESSAGE, CONDUIT_OK};
use crate::failure::{CallFailure, call};
use crate::handle;
use crate::pointers::{limit_ns, result};
use crate::sample::HeldSample;
use crate::subscriber::{OpenSubscriber, SubscriberHandle};
use crate::topic_event::TopicEventCode::{CONDUIT_TOPIC_OVERDUE, CONDUIT_TOPIC_RESUMED};
use crate::topic_event::{LastEvent, TopicEventRecord};

impl OpenSubscriber {
    /// Keeps an event for C, and the message in `sample` if it is one.
    fn keep(
        &mut self,
        event: TopicEvent<[u8]>,
        sample: &mut HeldSample,
    ) -> Result<*const TopicEventRecord, CallFailure> {
        self.event = match event {
            TopicEvent::Sample(received) => {
                sample.hold(received);
                LastEvent::default()
            }
            TopicEvent::Connected { publisher } => LastEvent::connected(&publisher),
            TopicEvent::Lost { how, certificate } => {
                LastEvent::lost(self.subscriber.topic().as_str(), how, certificate)
            }
            TopicEvent::Overdue { silence } => LastEvent::silence(CONDUIT_TOPIC_OVERDUE, silence),
            TopicEvent::Resumed { after } => LastEvent::silence(CONDUIT_TOPIC_RESUMED, after),
            other => {
                let text = format!("bug in libconduit, please report it: no event of C for {other:?}");
                return Err(CallFailure::new(CONDUIT_ERROR_INTERNAL, text));
            }
        };
        Ok(self.event.as_ptr())
    }
}

/// Receives the next message, or learns of the next change of the topic, and returns in `*event`
/// which of them; returns CONDUIT_NO_MESSAGE if there is none. `*event` is NULL then and on
/// failure.
///
/// Changes are those of the publisher, if the subscriber follows its topic (`follow`), and
/// silences, if it has a deadline (`deadline_ns`). A message is held by `*sample`, which must be
/// initialised, until conduit_sample_release(). The event is valid until the next call with this
/// subscriber. Changes are reported in order with the messages, unless functions that receive only
/// messages have passed them over; the descriptor and wait sets report them, too. When a publisher
/// has died, the registry is asked how, for up to 100 ms.
///
/// Errors: as for conduit_subscriber_recv(), and TYPE_MISMATCH and NOT_FOLLOWED, after which the
/// subscriber waits for another publisher. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_try_recv_event(
    subscriber: *mut SubscriberHandle,
    sample: *mut HeldSample,
    event: *mut *const TopicEventRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `event` is a result, `subscriber` is a handle and `sample` a sample.
        let (event, open, sample) =
            unsafe { (result("event", event, null())?, handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        let Some(received) = open.subscriber.try_recv_event()? else { return Ok(CONDUIT_NO_MESSAGE) };
        *event = open.keep(received, sample)?;
        Ok(CONDUIT_OK)
    })
}

/// As conduit_subscriber_try_recv_event(), but sleeps until there is a message or a change, or
/// `timeout_ns` nanoseconds have passed; CONDUIT_FOREVER is no limit. Signals do not interrupt it.
///
/// Errors: as for conduit_subscriber_try_recv_event(), and TIMED_OUT. One thread at a time.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn conduit_subscriber_recv_event(
    subscriber: *mut SubscriberHandle,
    timeout_ns: u64,
    sample: *mut HeldSample,
    event: *mut *const TopicEventRecord,
) -> ErrorCode {
    call(|| {
        // SAFETY: `conduit.h`: `event` is a result, `subscriber` is a handle and `sample` a sample.
        let (event, open, sample) =
            unsafe { (result("event", event, null())?, handle::state_mut(subscriber)?, HeldSample::empty(sample)?) };
        // A time beyond the range of the clock is no limit.
        let received = open.subscriber.recv_event_timeout(limit_ns(timeout_ns).unwrap_or(Duration::MAX))?;
        *event = open.keep(received, sample)?;
        Ok(CONDUIT_OK)
    })
}

//! Death certificates: how a process ended, and its subscribers.

use std::time::{Duration, Instant};

use conduit::Dying;
use conduit::internal::shm::dying::dying;
use conduit::internal::shm::process::{Exit, exit_of};
use conduit::registry::{DeathCertificate, Process, SubscriberInfo};

use crate::peer::Pidfd;

/// How long to wait for the exit status: the kernel has it once the parent has waited for the
/// process.
const EXIT_PATIENCE: Duration = Duration::from_millis(100);
const EXIT_INTERVAL: Duration = Duration::from_millis(2);

/// Adds the exit status of the process, if the kernel has it soon: the end of a connection is seen
/// before the end of its process. The status of one that is dumping core comes much later, and a
/// process that lives, and has only hung up, has none.
pub(crate) async fn certify(
    mut death: DeathCertificate,
    pidfd: Option<&Pidfd>,
    process: Option<&Process>,
) -> DeathCertificate {
    let Some(pidfd) = pidfd else { return death };
    let is_dumping = || process.is_some_and(|process| dying(process.pid) == Some(Dying::DumpingCore));
    let deadline = Instant::now() + EXIT_PATIENCE;
    loop {
        match exit_of(pidfd) {
            Some(Exit::Code(code)) => death.exit_code = Some(code),
            Some(Exit::Signal { signal, core_dumped }) => {
                death.signal = Some(signal);
                death.core_dumped = Some(core_dumped);
            }
            None if Instant::now() < deadline && !is_dumping() => {
                tokio::time::sleep(EXIT_INTERVAL).await;
                continue;
            }
            None => {}
        }
        return death;
    }
}

/// A subscriber that holds a lease, with its record; a read-only one has none.
pub(crate) type LeasedSubscriber = (Option<u32>, Process);

/// Lists subscribers by their records, identified by the kernel where they hold a lease, then those
/// without a record.
pub(crate) fn name_subscribers(
    leased: &[LeasedSubscriber],
    recorded: Vec<(usize, SubscriberInfo)>,
) -> Vec<SubscriberInfo> {
    let identify = |mut subscriber: SubscriberInfo, process: &Process| {
        (subscriber.pid, subscriber.uid) = (process.pid, process.uid);
        subscriber.program.clone_from(&process.program);
        subscriber
    };
    let named = recorded.into_iter().map(|(index, subscriber)| {
        let index = u32::try_from(index).ok();
        match leased.iter().find(|(record, _)| *record == index) {
            Some((_, process)) => identify(subscriber, process),
            None => subscriber,
        }
    });
    let readers = leased.iter().filter(|(record, _)| record.is_none());
    let readers = readers.map(|(_, process)| identify(SubscriberInfo::default(), process));
    named.chain(readers).collect()
}

//! What a subscriber loses that falls behind by fewer messages than the ring has slots.

use conduit::{Publisher, Subscriber};

use super::result::RowResult;
use crate::Result;
use crate::pattern;
use crate::site::BenchSite;

/// Publishes with all defaults, 1 message before they are received, then 2, and so on.
pub(super) fn fall_behind(site: &BenchSite, bytes: usize) -> Result<RowResult> {
    let (domain, words) = (site.domain(), bytes / size_of::<u64>());
    let mut publisher = Publisher::<[u64]>::builder().domain(&domain).capacity(bytes).create("behind")?;
    let mut subscriber = Subscriber::<[u64]>::builder().domain(&domain).open("behind")?;
    let mut lost = 0;
    for behind in 1..publisher.slots() {
        let first = publisher.published();
        for _ in 0..behind {
            let index = publisher.published();
            let mut loan = publisher.loan_slice(words)?;
            pattern::write(index, &mut loan);
            loan.publish();
        }
        let mut received = 0;
        while let Some(sample) = subscriber.try_recv()? {
            pattern::check(sample.sequence(), &sample)?;
            received += 1;
        }
        lost += publisher.published() - first - received;
    }
    if lost != subscriber.lost() {
        return Err(format!("{lost} messages were lost, {} were counted", subscriber.lost()).into());
    }
    Ok(RowResult { lost: Some(lost), ..RowResult::default() })
}

//! Points in time, by the clock on the wall, as RFC 3339 has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The end of the year 9999, after which RFC 3339 has no times.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A time in UTC, with microseconds.
pub(crate) fn time_us(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
}

/// A time in UTC, with milliseconds, of milliseconds since the epoch.
pub(crate) fn time_ms(time_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(time_ms).min(LAST)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_text() {
        let us = |time: Option<SystemTime>| time_us(time.unwrap());
        assert_eq!(us(UNIX_EPOCH.checked_add(Duration::from_micros(86_400_000_001))), "1970-01-02T00:00:00.000001Z");
        assert_eq!(us(UNIX_EPOCH.checked_sub(Duration::from_secs(1))), "1970-01-01T00:00:00.000000Z");
        assert_eq!(us(UNIX_EPOCH.checked_add(Duration::from_secs(1 << 50))), "9999-12-31T23:59:59.000000Z");
        assert_eq!(
            [time_ms(1_795_770_000_123), time_ms(u64::MAX)],
            ["2026-11-27T09:00:00.123Z", "9999-12-31T23:59:59.000Z"]
        );
    }
}

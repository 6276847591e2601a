//! Sizes, durations, rates and counts for people.

use std::time::Duration;

/// A size of memory, in powers of 1024 as pages and slots are.
pub(crate) fn memory_size(bytes: u64) -> String {
    with_unit(bytes, 1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// An amount of data, in powers of 1000 as rates are.
pub(crate) fn data_size(bytes: u64) -> String {
    with_unit(bytes, 1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

fn with_unit(bytes: u64, step: f64, units: [&str; 7]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // Rounding must not print "1024.0 KiB" in place of "1.0 MiB".
    while value >= step - 0.05 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} {}", units[0]) } else { format!("{value:.1} {}", units[unit]) }
}

/// A duration with three digits, in the unit that suits it.
pub(crate) fn duration(duration: Duration) -> String {
    let ns = duration.as_nanos() as f64;
    let (value, unit) = match ns {
        ..999.5 => return format!("{ns} ns"),
        ..999.5e3 => (ns / 1e3, "us"),
        ..999.5e6 => (ns / 1e6, "ms"),
        ..60e9 => (ns / 1e9, "s"),
        ..3600e9 => (ns / 60e9, "min"),
        _ => (ns / 3600e9, "h"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A frequency, with at least three digits; as a power of ten what can only be a lie.
pub(crate) fn rate(hz: f64) -> String {
    if hz >= 1e12 {
        return format!("{hz:.1e} Hz");
    }
    format!("{} Hz", three_digits(hz))
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// [`duration`] of nanoseconds.
pub(crate) fn duration_ns(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

/// A count with the right form of its noun.
pub(crate) fn count(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let rates = [0.0, 0.5, 9.996, 99.96, 1000.4].map(rate);
        assert_eq!(rates, ["0 Hz", "0.50 Hz", "10.0 Hz", "100 Hz", "1000 Hz"]);
        assert_eq!(rate(1.84e28), "1.8e28 Hz");
    }

    #[test]
    fn sizes_have_units() {
        for (bytes, memory, data) in [
            (0, "0 B", "0 B"),
            (999, "999 B", "999 B"),
            (1023, "1023 B", "1.0 kB"),
            (1024, "1.0 KiB", "1.0 kB"),
            (69_632, "68.0 KiB", "69.6 kB"),
            (12_000_008, "11.4 MiB", "12.0 MB"),
            ((1 << 20) - 1, "1.0 MiB", "1.0 MB"),
            (u64::MAX, "16.0 EiB", "18.4 EB"),
        ] {
            assert_eq!((memory_size(bytes).as_str(), data_size(bytes).as_str()), (memory, data));
        }
    }

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_600, "1.00 ms"),
            (123_456_789, "123 ms"),
            (59_000_000_000, "59.0 s"),
            (90_000_000_000, "1.50 min"),
            (7_200_000_000_000, "2.00 h"),
        ] {
            assert_eq!(duration_ns(ns), text);
        }
    }
}

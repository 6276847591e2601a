//! Durations on the command line.

use std::time::Duration;

/// Reads `5`, `0.5`, `5s`, `500ms`, `1m 30s`: seconds where there is no unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let with_unit = || humantime::parse_duration(text).ok();
    seconds.or_else(with_unit).ok_or_else(|| "a time is something like 0.5, 5s, 500ms or 2m, and not negative".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_what_is_meant() {
        let ms = |text| parse(text).map(|it| it.as_millis());
        assert_eq!(
            [ms("5"), ms("0.5"), ms("5s"), ms("500ms"), ms("1m 30s")],
            [Ok(5000), Ok(500), Ok(5000), Ok(500), Ok(90000)]
        );
        assert!(["", "-1", "soon", "5 parsecs", "1e99", "NaN"].iter().all(|text| parse(text).is_err()));
    }
}

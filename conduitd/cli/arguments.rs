//! Arguments that several verbs have.

use std::time::Duration;

use conduit::{TopicName, TopicNameError};

/// The longest duration: so far ahead that it means forever, and not beyond the range of clocks.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parses `5`, `0.5`, `5s`, `500ms` or `1m 30s`; a number without a unit is in seconds. More than
/// 100 years are 100 years.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let with_unit = || humantime::parse_duration(text).ok();
    let duration = seconds.or_else(with_unit).ok_or("expected a duration such as 0.5, 5s, 500ms or 2m")?;
    Ok(duration.min(LONGEST))
}

/// Parses names of topics.
pub(crate) fn topic_names(names: &[String]) -> Result<Vec<TopicName>, TopicNameError> {
    names.iter().map(|name| name.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_seconds_unless_they_have_a_unit() {
        let ms = |text| duration(text).map(|it| it.as_millis());
        assert_eq!(
            [ms("5"), ms("0.5"), ms("5s"), ms("500ms"), ms("1m 30s")],
            [Ok(5000), Ok(500), Ok(5000), Ok(500), Ok(90000)]
        );
        assert_eq!([duration("1e19"), duration("1000y")], [Ok(LONGEST), Ok(LONGEST)]);
        assert!(["", "-1", "soon", "5 parsecs", "1e99", "NaN"].iter().all(|text| duration(text).is_err()));
    }
}

//! Numbers, durations and names that fit their columns.

use crate::output;

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn seconds(time_ms: u64) -> String {
    let time = output::time_ms(time_ms);
    format!("{}Z", &time["2026-11-27T".len()..][.."12:34:56".len()])
}

/// The end of a name tells topics apart.
pub(super) fn shorten(name: &str, width: u16) -> String {
    let count = name.chars().count();
    let width = usize::from(width);
    if count <= width {
        name.into()
    } else {
        name.chars().skip(count - width + 1).fold("…".into(), |text, it| text + &it.to_string())
    }
}

/// The last values as bars, as high as their greatest allows.
pub(super) fn bars(values: &[f64], width: usize) -> String {
    let last = &values[values.len().saturating_sub(width)..];
    let greatest = last.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| {
        let eighths = if greatest > 0.0 { (value / greatest * 8.0).ceil() as usize } else { 0 };
        BARS[eighths.min(8)]
    };
    last.iter().map(bar).collect()
}

/// A number in five columns.
pub(super) fn number(value: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value.max(0.0);
    if value < 0.005 {
        return "0".into();
    }
    // Four digits need no unit.
    let mut unit = 0;
    while unit + 1 < UNITS.len() && value >= if unit == 0 { 9999.5 } else { 999.5 } {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 && value.fract() == 0.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", UNITS[unit])
}

/// A duration in seven columns.
pub(super) fn duration(ns: u64) -> String {
    if ns == 0 { "0".into() } else { output::duration_ns(ns).replace(' ', "") }
}

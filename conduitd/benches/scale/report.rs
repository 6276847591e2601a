//! Times, and the table of results.

use std::fmt::{Display, Write as _};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::PAUSE;

/// Durations in milliseconds.
pub(crate) struct Milliseconds(pub(crate) Vec<f64>);

impl Milliseconds {
    pub(crate) fn at(&mut self, percent: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let index = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0[index.clamp(1, self.0.len()) - 1]
    }

    pub(crate) fn percentiles(&mut self) -> String {
        let [p50, p90, p99, max] = [50.0, 90.0, 99.0, 100.0].map(|percent| self.at(percent));
        format!("{p50:.2} | {p90:.2} | {p99:.2} | {max:.2}")
    }
}

pub(crate) fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Repeats a call on one connection; returns the times to the last bytes of the replies, and the
/// length of a reply.
pub(crate) fn repeat_call(
    stream: &mut UnixStream,
    method: &str,
    parameters: &str,
    times: usize,
) -> (Milliseconds, usize) {
    let call = format!("{{\"method\":\"io.conduit.Registry.{method}\",\"parameters\":{parameters}}}\0");
    let mut buffer = vec![0; 1 << 20];
    let mut found = Vec::new();
    let mut bytes = 0;
    for _ in 0..times {
        std::thread::sleep(PAUSE);
        let started = Instant::now();
        stream.write_all(call.as_bytes()).unwrap();
        bytes = 0;
        loop {
            let len = stream.read(&mut buffer).unwrap();
            assert!(len > 0, "the daemon hung up");
            bytes += len;
            if buffer[len - 1] == 0 {
                break;
            }
        }
        found.push(started.elapsed().as_secs_f64() * 1e3);
    }
    (Milliseconds(found), bytes)
}

/// The table of results.
#[derive(Default)]
pub(crate) struct ScaleReport(pub(crate) String);

impl ScaleReport {
    pub(crate) fn times(&mut self, what: &str, mut times: Milliseconds) {
        self.row(what, &times.percentiles());
    }

    pub(crate) fn figure(&mut self, what: &str, figure: impl Display) {
        self.row(what, &format!("{figure} | | |"));
    }

    pub(crate) fn row(&mut self, what: &str, columns: &str) {
        writeln!(self.0, "| {what} | {columns} |").unwrap();
    }
}

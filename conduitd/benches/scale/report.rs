//! Times, and the table of results.

use std::fmt::{Display, Write as _};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use conduit_bench::statistics::Timings;

use crate::PAUSE;

/// Repeats a call on one connection; returns the times to the last bytes of the replies, and the
/// length of a reply.
pub(crate) fn repeat_call(stream: &mut UnixStream, method: &str, parameters: &str, times: usize) -> (Timings, usize) {
    let call = format!("{{\"method\":\"io.conduit.Registry.{method}\",\"parameters\":{parameters}}}\0");
    let mut buffer = vec![0; 1 << 20];
    let mut found = Timings::new(1);
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
        found.record(started.elapsed().as_nanos() as u64);
    }
    (found, bytes)
}

/// The table of results.
#[derive(Default)]
pub(crate) struct ScaleReport(pub(crate) String);

impl ScaleReport {
    /// Percentiles in milliseconds.
    pub(crate) fn times(&mut self, what: &str, times: &Timings) {
        let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|per_mille| times.at(per_mille) / 1e6);
        self.row(what, &format!("{p50:.2} | {p90:.2} | {p99:.2} | {max:.2}"));
    }

    pub(crate) fn figure(&mut self, what: &str, figure: impl Display) {
        self.row(what, &format!("{figure} | | |"));
    }

    fn row(&mut self, what: &str, columns: &str) {
        writeln!(self.0, "| {what} | {columns} |").unwrap();
    }
}

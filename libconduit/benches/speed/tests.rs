//! The benchmark's own tests: what a benchmark target has, `cargo test` does not run.
#![allow(missing_docs, reason = "nobody uses this crate")]
#![allow(dead_code, reason = "the benchmark uses it")]

mod harness;

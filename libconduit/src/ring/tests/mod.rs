//! Tests of the ring: under a model checker, against a reference, and under load.

mod mapped;
mod model;
mod reference;
mod stress;

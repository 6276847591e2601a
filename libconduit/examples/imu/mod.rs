//! What the two IMU examples agree on.

use conduit::Message;
use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const TOPIC: &str = "imu";

#[derive(Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "example/Imu")]
#[repr(C)]
pub(crate) struct Imu {
    /// In rad/s.
    pub(crate) gyro: [f64; 3],
    /// In m/s².
    pub(crate) acceleration: [f64; 3],
}

//! A lidar scan of 12 MB in a raw region: three arrays of a million floats, written once and read
//! in place.
//!
//!     cargo run --example point_cloud -- write
//!     cargo run --example point_cloud -- read
//!     cargo run --example point_cloud -- unlink
//!
//! Layout in bytes: x at 0, y at 4,000,000, z at 8,000,000, and at 12,000,000 the number of points,
//! which stays 0 until the arrays are complete. No process writes to them after that. A stream of
//! scans would be a topic, not a raw region.
#![allow(unsafe_code)]

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use conduit::ShmRegion;

const NAME: &str = "lidar";
const SIZE_BYTES: usize = 13_000_000;
const POINTS: usize = 1_000_000;
const COUNT_OFFSET: usize = 3 * POINTS * size_of::<f32>();
const PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(COUNT_OFFSET + size_of::<AtomicU32>() <= SIZE_BYTES);
const _: () = assert!(COUNT_OFFSET.is_multiple_of(align_of::<AtomicU32>()));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.join(" ").as_str() {
        "write" => write(),
        "read" => read(),
        "unlink" => ShmRegion::unlink(NAME).map_err(Into::into),
        _ => {
            let _ = writeln!(stderr(), "usage: point_cloud write|read|unlink");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = outcome {
        let _ = writeln!(stderr(), "point_cloud: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write() -> Result<(), Box<dyn Error>> {
    let region = ShmRegion::create(NAME, SIZE_BYTES)?;
    // SAFETY: page-aligned, within SIZE_BYTES, zeroed; while the count is 0 only the creator
    // touches the arrays.
    let coordinates = unsafe { std::slice::from_raw_parts_mut(region.data().cast::<f32>(), 3 * POINTS) };
    let (x, yz) = coordinates.split_at_mut(POINTS);
    let (y, z) = yz.split_at_mut(POINTS);
    for i in 0..POINTS {
        [x[i], y[i], z[i]] = point(i);
    }
    writeln!(stdout(), "wrote {POINTS} points to region \"{NAME}\", sum {:.3}", sum(coordinates))?;
    // Pairs with the acquire in `read`.
    count(&region).store(POINTS as u32, Ordering::Release);
    Ok(())
}

fn read() -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    if !ShmRegion::wait_until_exists_for(NAME, PATIENCE)? {
        return Err(format!("no region \"{NAME}\" within {PATIENCE:?}; run `point_cloud write`").into());
    }
    let region = ShmRegion::open(NAME)?;
    if region.size() != SIZE_BYTES {
        return Err(format!("region \"{NAME}\" has {} bytes, not {SIZE_BYTES}", region.size()).into());
    }
    while count(&region).load(Ordering::Acquire) as usize != POINTS {
        if Instant::now() >= deadline {
            return Err(format!("the scan in region \"{NAME}\" is not complete after {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: page-aligned and within SIZE_BYTES; the arrays are complete, and no
    // process writes to them any more.
    let coordinates = unsafe { std::slice::from_raw_parts(region.data().cast::<f32>(), 3 * POINTS) };
    let (x, yz) = coordinates.split_at(POINTS);
    let (y, z) = yz.split_at(POINTS);
    if let Some(i) = (0..POINTS).find(|&i| [x[i], y[i], z[i]] != point(i)) {
        return Err(format!("point {i} is {:?}, not {:?}", [x[i], y[i], z[i]], point(i)).into());
    }
    for i in [0, 1, POINTS / 2, POINTS - 1] {
        writeln!(stdout(), "point {i:>6}: {:>8.3} {:>8.3} {:>8.3}", x[i], y[i], z[i])?;
    }
    writeln!(stdout(), "verified {POINTS} points of region \"{NAME}\", sum {:.3}", sum(coordinates))?;
    Ok(())
}

/// A synthetic scan: 64 rings of increasing radius and height.
fn point(i: usize) -> [f32; 3] {
    let ring = (i % 64) as f32;
    let angle = i as f32 / POINTS as f32 * std::f32::consts::TAU;
    let radius = 1.0 + ring * 0.5;
    [radius * angle.cos(), radius * angle.sin(), ring * 0.1 - 1.5]
}

fn sum(coordinates: &[f32]) -> f64 {
    coordinates.iter().copied().map(f64::from).sum()
}

fn count(region: &ShmRegion) -> &AtomicU32 {
    assert_eq!(region.size(), SIZE_BYTES);
    // SAFETY: in bounds and aligned as asserted, mapped while the region is borrowed, and only used
    // as an AtomicU32.
    unsafe { &*region.data().add(COUNT_OFFSET).cast::<AtomicU32>() }
}

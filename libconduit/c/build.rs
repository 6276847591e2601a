//! Options of the linker for the shared library.

#![allow(clippy::print_stdout, reason = "how a build script reports to cargo")]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The major version of the ABI.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libconduit.so.0");
    // The library cannot be unloaded: it registers handlers for fork(2) and for the end of threads.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

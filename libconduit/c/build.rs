//! What the linker is told of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The major version of the ABI.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libconduit.so.0");
    // It has handlers of fork(2) and of the ends of threads: it can not be unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

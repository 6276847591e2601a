//! Where regions are, and which registry knows them.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;

use conduit::Domain;

use crate::failure::CallFailure;
use crate::pointers::{OptionsStruct, RawBool, options, string};

/// Where regions are, and which registry knows them.
///
/// Functions accept NULL in place of a domain. For a member that is NULL, and for a domain that is
/// NULL, the environment decides: the directory is $CONDUIT_SHM_DIR, or else /dev/shm; the socket
/// is $CONDUIT_SOCKET, or else $XDG_RUNTIME_DIR/conduit/registry.sock, or else
/// /run/conduit/registry.sock.
///
/// Initialise it with CONDUIT_DOMAIN_INIT. The library copies what it needs during the call.
#[derive(Debug)]
#[repr(C)]
pub struct DomainOptions {
    /// sizeof(conduit_domain); set by CONDUIT_DOMAIN_INIT.
    pub struct_size: usize,
    /// The shared-memory directory. NULL: the environment decides.
    pub shm_dir: *const c_char,
    /// The registry's socket. NULL: the environment decides. "": no registry.
    pub socket: *const c_char,
    /// Whether to accept a directory that is not on a tmpfs.
    pub any_file_system: RawBool,
    /// Must be 0.
    pub reserved: [u8; 7],
}

// SAFETY: it is `repr(C)`, begins with its size, and pointers and integers may have any bits.
unsafe impl OptionsStruct for DomainOptions {
    const INIT: &str = "CONDUIT_DOMAIN_INIT";
}

/// Reads a domain.
///
/// # Safety
///
/// `given` is as for [`options`], and its strings are as for [`string`], during the call.
pub(crate) unsafe fn domain(given: *const DomainOptions) -> Result<Domain, CallFailure> {
    // SAFETY: as the caller vouches.
    let given = unsafe { options(given) }?;
    // SAFETY: as the caller vouches for the strings.
    let (shm_dir, socket) = unsafe { (string(given.shm_dir), string(given.socket)) };
    let mut domain = match shm_dir.map(path) {
        Some(directory) if directory.is_empty() => {
            return Err(CallFailure::argument("the shared-memory directory is \"\""));
        }
        Some(directory) => Domain::from_env().with_shm_dir(directory),
        None => Domain::from_env(),
    };
    domain = match socket.map(path) {
        Some(socket) if socket.is_empty() => domain.without_registry(),
        Some(socket) => domain.with_socket(socket),
        None => domain,
    };
    Ok(if given.any_file_system.get() { domain.allow_any_file_system(true) } else { domain })
}

fn path(text: &CStr) -> &OsStr {
    OsStr::from_bytes(text.to_bytes())
}

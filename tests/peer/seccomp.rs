//! Seccomp filters for a thread and the threads that it starts.
#![allow(unsafe_code)]

use nix::libc;

/// Makes `futex_waitv` fail with ENOSYS in this thread, as on an old kernel.
pub fn deny_waitv() -> std::io::Result<()> {
    filter(&[libc::SYS_futex_waitv], libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, libc::SECCOMP_RET_ALLOW)
}

/// Makes every start of a thread fail, as beyond the limit of threads.
pub fn deny_threads() -> std::io::Result<()> {
    let calls = [libc::SYS_clone, libc::SYS_clone3];
    filter(&calls, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32, libc::SECCOMP_RET_ALLOW)
}

/// Makes every use of inotify fail, as beyond the limit of instances.
pub fn deny_inotify() -> std::io::Result<()> {
    filter(&[libc::SYS_inotify_init1], libc::SECCOMP_RET_ERRNO | libc::EMFILE as u32, libc::SECCOMP_RET_ALLOW)
}

/// Kills the process with SIGSYS if this thread reads a directory.
pub fn deny_listing() -> std::io::Result<()> {
    filter(&[libc::SYS_getdents64], libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ALLOW)
}

/// Kills the process with SIGSYS at any system call of this thread except `write` and `exit_group`,
/// which it needs to answer and exit.
pub fn deny_all_but_the_end() -> std::io::Result<()> {
    filter(&[libc::SYS_write, libc::SYS_exit_group], libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_PROCESS)
}

/// Returns one action for these calls and another for all others.
fn filter(calls: &[i64], at_these: u32, at_others: u32) -> std::io::Result<()> {
    let line = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number of the system call is the first word of the filter's input.
    let mut program = vec![line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (left, call) in (1..=calls.len() as u8).rev().zip(calls) {
        program.push(line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32, left, 0));
    }
    program.push(line(libc::BPF_RET | libc::BPF_K, at_others, 0, 0));
    program.push(line(libc::BPF_RET | libc::BPF_K, at_these, 0, 0));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program during the call.
    let is_set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if is_set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Ends the process with `exit_group` and no other call.
pub fn end(code: i32) -> ! {
    // SAFETY: `_exit` ends the process and runs no other code.
    unsafe { libc::_exit(code) }
}

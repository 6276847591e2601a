//! Telling systemd, if it started us, how we are. See [`sd_notify(3)`](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).

use sd_notify::NotifyState;

/// Clients can connect, and everything that was there has been adopted.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon is about to end.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("can not tell systemd: {error}");
    }
}

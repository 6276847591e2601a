use nix::errno::Errno;

use super::*;
use crate::Message;
use crate::shm::new_file::{CREATE, MAP, NAME, RESERVE, SET_GROUP};

#[test]
fn every_limit_that_refuses_a_region_has_a_remedy() {
    for (doing, errno, remedy) in [
        (CREATE, Errno::ENOSPC, "nr_inodes="),
        (NAME, Errno::ENOSPC, "nr_inodes="),
        ("mark", Errno::ENOSPC, "size="),
        (CREATE, Errno::EROFS, "remount,rw"),
        (CREATE, Errno::EOPNOTSUPP, "use a tmpfs"),
        (RESERVE, Errno::EFBIG, "ulimit -f"),
        (RESERVE, Errno::ENOMEM, "swap space"),
        (CREATE, Errno::ENOMEM, "swap space"),
        (CREATE, Errno::EDQUOT, "quota"),
        (RESERVE, Errno::EDQUOT, "quota"),
        (SET_GROUP, Errno::EPERM, "id -G"),
        (MAP, Errno::EAGAIN, "ulimit -l"),
        (MAP, Errno::ENOMEM, "ulimit -v"),
        ("open", Errno::EMFILE, "ulimit -n"),
        ("open", Errno::ENFILE, "fs.file-max"),
        (CREATE, Errno::EACCES, "permission"),
        ("open", Errno::ENOENT, "must exist"),
    ] {
        let path = || PathBuf::from("/dev/shm/conduit_x");
        let source = || io::Error::from(errno);
        let sentences = [
            CreateError::Io { doing, path: path(), source: source() }.to_string(),
            OpenError::Io { doing, path: path(), source: source() }.to_string(),
            explained(doing, &source()).to_string(),
        ];
        for sentence in sentences {
            assert!(sentence.starts_with(&format!("cannot {doing}")), "{sentence}");
            assert!(sentence.contains("; ") && sentence.contains(remedy), "{sentence}");
        }
    }
}

#[test]
fn errors_name_the_call_to_change() {
    let topic = || "imu".parse::<TopicName>().unwrap();
    let small = CreateError::SlotTooSmall { message: Box::new(<[f32; 99]>::TYPE), need: 396, capacity: 64 };
    let large = LoanError::MessageTooLarge { len: 70, capacity: 64 };
    let [found, expected] = [<[f32; 3]>::TYPE, <[f32; 4]>::TYPE].map(Box::new);
    let other = OpenError::TypeMismatch { topic: topic(), found, expected };
    for (sentence, part) in [
        (small.to_string(), "type [f32; 99] need 396 bytes"),
        (small.to_string(), "capacity(396)"),
        (large.to_string(), "capacity(70)"),
        (LoanError::AllSlotsHeld { slots: 4 }.to_string(), "slots()"),
        (other.to_string(), "type [f32; 3] (12 bytes, align 4), this subscriber expects [f32; 4] (16 bytes, align 4)"),
        (OpenError::Permission { path: PathBuf::new() }.to_string(), "mode() or group()"),
    ] {
        assert!(sentence.contains(part), "{sentence}");
    }
}

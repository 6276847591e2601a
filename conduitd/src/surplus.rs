//! Owns the count of the names that are not tracked: those beyond what one user, or one file, may
//! have. They cost a number per user.

use std::cell::RefCell;
use std::collections::HashMap;

/// The names that are not tracked, by the owners of their files.
#[derive(Default)]
pub(crate) struct SurplusNames(RefCell<HashMap<u32, UserSurplus>>);

#[derive(Clone, Copy, Default)]
struct UserSurplus {
    /// As far as is known: until the next count, names that come and go are counted each time.
    names: u64,
    /// In the count that is being made.
    counted: u64,
    /// The count that was logged last.
    logged: u64,
}

impl SurplusNames {
    /// Counts a name; `is_recount`: as part of a count of all. Returns the number of a user's names
    /// when it is to be logged: when it has doubled.
    pub(crate) fn add(&self, uid: u32, is_recount: bool) -> Option<u64> {
        let mut users = self.0.borrow_mut();
        let user = users.entry(uid).or_default();
        if is_recount {
            user.counted += 1;
            user.names = user.names.max(user.counted);
        } else {
            user.names += 1;
        }
        (user.names >= user.logged * 2).then(|| {
            user.logged = user.names.max(1);
            user.logged
        })
    }

    /// Begins to count all names.
    pub(crate) fn begin_recount(&self) {
        self.0.borrow_mut().values_mut().for_each(|user| user.counted = 0);
    }

    /// All names have been counted.
    pub(crate) fn end_recount(&self) {
        self.0.borrow_mut().retain(|_, user| {
            user.names = user.counted;
            user.names > 0
        });
    }

    /// Names of all users.
    pub(crate) fn total(&self) -> u64 {
        self.0.borrow().values().map(|user| user.names).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether a user has any.
    pub(crate) fn has(&self, uid: u32) -> bool {
        self.0.borrow().contains_key(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_by_user_and_logged_when_they_double() {
        let surplus = SurplusNames::default();
        let logged: Vec<_> = (0..9).filter_map(|_| surplus.add(1, false)).collect();
        assert_eq!(logged, [1, 2, 4, 8]);
        assert_eq!(surplus.add(2, false), Some(1));
        assert_eq!(surplus.total(), 10);

        surplus.begin_recount();
        for _ in 0..3 {
            assert_eq!(surplus.add(1, true), None);
        }
        surplus.end_recount();
        assert_eq!((surplus.total(), surplus.has(1), surplus.has(2)), (3, true, false));
        surplus.begin_recount();
        surplus.end_recount();
        assert!(surplus.is_empty());
    }
}

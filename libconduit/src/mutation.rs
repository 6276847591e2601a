//! Mutations: mistakes with names that can be switched on one at a time, to see which test finds
//! each. Only with `--cfg conduit_mutations`; otherwise every macro means what it does in the
//! second column and nothing else.
//!
//! | in the code | means | mutations |
//! |---|---|---|
//! | `order!(w7, AcqRel)` | `AcqRel` | `w7_acquire`, `w7_release`, `w7_relaxed`: weaker orderings |
//! | `order!(w7, SeqCst)` | `SeqCst` | `w7_acqrel` and those above |
//! | `order!(r3, SeqCst load)` | `SeqCst` | `r3_acquire`, `r3_relaxed` |
//! | `order!(w3, SeqCst fence)` | `SeqCst` | `w3_acqrel`, `w3_acquire`, `w3_release` |
//! | `step!(w3, passed.store(..))` | the statement | `w3_left_out` |
//! | `mutated!(w5_after_w6)` | `false` | `w5_after_w6` |
//!
//! A label that the [protocol](crate::ring) gives to a step, in lower case, begins the names of its
//! mutations. Each name occurs once.
//!
//! `CONDUIT_MUTATION=w3_left_out` switches a mutation on. `.ci/deep mutations` (`tests/mutations`)
//! takes all names from the sources, runs the tests with each, and fails if one survives, unless a
//! comment above it says why it may: `// survives w7_acquire: ` and a reason.

/// An ordering, and the weaker ones as mutations.
#[cfg(not(conduit_mutations))]
macro_rules! order {
    ($label:ident, $order:ident $($of:ident)?) => {
        $order
    };
}

/// A statement, and its absence as a mutation.
#[cfg(not(conduit_mutations))]
macro_rules! step {
    ($label:ident, $step:expr) => {
        $step
    };
}

/// Whether a mutation is switched on.
#[cfg(not(conduit_mutations))]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
}

#[cfg(conduit_mutations)]
macro_rules! order {
    ($label:ident, SeqCst) => {
        $crate::mutation::weaker!($label, SeqCst, AcqRel "_acqrel", Acquire "_acquire", Release "_release", Relaxed "_relaxed")
    };
    ($label:ident, SeqCst load) => {
        $crate::mutation::weaker!($label, SeqCst, Acquire "_acquire", Relaxed "_relaxed")
    };
    ($label:ident, SeqCst fence) => {
        $crate::mutation::weaker!($label, SeqCst, AcqRel "_acqrel", Acquire "_acquire", Release "_release")
    };
    ($label:ident, AcqRel) => {
        $crate::mutation::weaker!($label, AcqRel, Acquire "_acquire", Release "_release", Relaxed "_relaxed")
    };
    ($label:ident, $order:ident) => {
        $crate::mutation::weaker!($label, $order, Relaxed "_relaxed")
    };
}

#[cfg(conduit_mutations)]
macro_rules! weaker {
    ($label:ident, $order:ident $(, $weaker:ident $suffix:literal)*) => {
        $(if $crate::mutation::is_on!(concat!(stringify!($label), $suffix)) {
            ::std::sync::atomic::Ordering::$weaker
        } else)* {
            $order
        }
    };
}

#[cfg(conduit_mutations)]
macro_rules! step {
    ($label:ident, $step:expr) => {
        if !$crate::mutation::is_on!(concat!(stringify!($label), "_left_out")) {
            $step;
        }
    };
}

#[cfg(conduit_mutations)]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::is_on!(stringify!($name))
    };
}

#[cfg(conduit_mutations)]
macro_rules! is_on {
    ($name:expr) => {{
        static SWITCH: $crate::mutation::Switch = $crate::mutation::Switch::new($name);
        SWITCH.is_on()
    }};
}

#[cfg(conduit_mutations)]
pub(crate) use {is_on, weaker};
pub(crate) use {mutated, order, step};

#[cfg(conduit_mutations)]
pub(crate) use switch::Switch;

#[cfg(conduit_mutations)]
mod switch {
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    const UNKNOWN: u8 = 0;
    const OFF: u8 = 1;
    const ON: u8 = 2;

    /// One mutation's switch.
    pub(crate) struct Switch {
        name: &'static str,
        position: AtomicU8,
    }

    impl Switch {
        pub(crate) const fn new(name: &'static str) -> Self {
            Self { name, position: AtomicU8::new(UNKNOWN) }
        }

        #[inline]
        pub(crate) fn is_on(&self) -> bool {
            match self.position.load(Relaxed) {
                UNKNOWN => self.find_out(),
                position => position == ON,
            }
        }

        /// Also leaves a file of its name in the folder `CONDUIT_MUTATIONS_REACHED`, if that is
        /// set.
        #[cold]
        fn find_out(&self) -> bool {
            let is_on = std::env::var_os("CONDUIT_MUTATION").is_some_and(|name| name == self.name);
            self.position.store(if is_on { ON } else { OFF }, Relaxed);
            if let Some(folder) = std::env::var_os("CONDUIT_MUTATIONS_REACHED") {
                // The folder is there for the test that set the variable, not for what outlives it.
                let _ = File::create(PathBuf::from(folder).join(self.name));
            }
            is_on
        }
    }
}

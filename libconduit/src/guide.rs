//! How do I ...: the tasks of a robot, each as a whole program.
//!
//! The programs lie in `libconduit/examples/guide`; the tests run each of them, with publishers
//! that are killed and restarted. Their messages are `[f64; 6]`, so that they need no type of their
//! own; the page of [`Message`](crate::Message) shows how to define one.
//!
//! # ... receive a topic, whoever publishes it?
//!
//! [`follow`](crate::SubscriberBuilder::follow) opens a topic before it exists, survives the death
//! of its publisher, and continues with the next one. [`epoch`](crate::Sample::epoch) says with
//! which. To learn of what happens in between, use
//! [`recv_event`](crate::Subscriber::recv_event).
//!
#![doc = concat!("```no_run\n", include_str!("../examples/guide/follow.rs"), "```")]
//!
//! # ... control something with the latest values?
//!
//! A wait set keeps the period without drift. [`latest_copy`](crate::Subscriber::latest_copy) takes
//! the newest message and passes over older ones, which count as skipped, not as lost. Neither
//! allocates, and receiving makes no system call.
//!
#![doc = concat!("```no_run\n", include_str!("../examples/guide/control_loop.rs"), "```")]
//!
//! # ... notice that no message comes?
//!
//! A [`deadline`](crate::SubscriberBuilder::deadline) reports each silence once, also the one
//! before the first message, and whether the publisher hangs, is stopped, or is not there.
//!
#![doc = concat!("```no_run\n", include_str!("../examples/guide/watchdog.rs"), "```")]
//!
//! # ... record all topics?
//!
//! [`open_all`](crate::SubscriberBuilder::open_all) receives from all topics that match a pattern,
//! as they come and go, in the order of their time stamps. A recorder that copies can be stopped at
//! any moment without keeping a slot from anybody.
//! [`recv_event`](crate::PatternSubscriber::recv_event) tells what happens to the topics.
//!
#![doc = concat!("```no_run\n", include_str!("../examples/guide/record.rs"), "```")]
//!
//! # ... stop a service?
//!
//! [`Stop`](crate::Stop) ends every call that waits, from another thread or on a signal. The first
//! SIGTERM or Ctrl-C ends the loop, a second one the process. Nothing that has arrived is lost.
//!
#![doc = concat!("```no_run\n", include_str!("../examples/guide/service.rs"), "```")]

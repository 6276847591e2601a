//! A test as herd7's C, whose models are those of C11, and so Rust's.

use std::fmt::Write;

use super::pair::{Action, Operation, Order, Pair, Step, Thread};

/// Is 1 at the end of a thread.
pub const DONE: &str = "done";

/// Bits of a word that a test may use.
const WORD: u32 = 0xff;

/// The text of a test.
pub fn program(pair: &Pair) -> String {
    let words = pair.words();
    let mut start = String::new();
    for (word, value) in &pair.start {
        let _ = write!(start, " {word}={value};");
    }
    let mut threads = String::new();
    for (index, thread) in pair.threads.iter().enumerate() {
        let mut writer = Writer { thread: index, ..Writer::default() };
        writer.body(thread);
        for (word, value) in &writer.expected {
            let _ = write!(start, " {word}={value};");
        }
        let atomic =
            words.iter().map(|(word, is_atomic)| format!("{} {word}", if *is_atomic { "atomic_int*" } else { "int*" }));
        let plain = writer.expected.iter().map(|(word, _)| format!("int* {word}"));
        let parameters = atomic.chain(plain).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(threads, "P{index} ({parameters}) {{\n{}{}}}\n", writer.text, "  }\n".repeat(writer.open_blocks));
    }
    let condition = pair.condition(DONE, |_, register| register.to_owned());
    format!("C {}\n{{{start} }}\n\n{threads}{condition}", pair.name)
}

#[derive(Default)]
struct Writer {
    thread: usize,
    text: String,
    /// Words that hold what a `compare_exchange` expects.
    expected: Vec<(String, u32)>,
    unused: usize,
    open_blocks: usize,
}

impl Writer {
    fn body(&mut self, thread: &Thread) {
        for step in &thread.steps {
            let line = self.line(step);
            let _ = writeln!(self.text, "  {line}");
        }
        let _ = writeln!(self.text, "  int {DONE} = 1;");
    }

    fn line(&mut self, step: &Step) -> String {
        let order = name(step.order);
        match &step.action {
            Action::Load(at) if step.order == Order::Plain => format!("int {} = *{at};", self.register(step)),
            Action::Load(at) => format!("int {} = atomic_load_explicit({at}, {order});", self.register(step)),
            Action::Store(at, value) if step.order == Order::Plain => format!("*{at} = {value};"),
            Action::Store(at, value) => format!("atomic_store_explicit({at}, {value}, {order});"),
            Action::Modify(operation, at, value) => {
                let (function, value) = match operation {
                    Operation::Swap => ("atomic_exchange_explicit", *value),
                    Operation::Add => ("atomic_fetch_add_explicit", *value),
                    Operation::Or => ("atomic_fetch_or_explicit", *value),
                    Operation::AndNot => ("atomic_fetch_and_explicit", !value & WORD),
                };
                format!("int {} = {function}({at}, {value}, {order});", self.register(step))
            }
            Action::CompareExchange(at, [old, new]) => {
                let expected = format!("expected_{}_{}", self.thread, self.expected.len());
                let register = self.register(step);
                let call = format!(
                    "atomic_compare_exchange_strong_explicit({at}, {expected}, {new}, {order}, memory_order_relaxed)"
                );
                self.expected.push((expected, *old));
                self.open_blocks += 1;
                format!("int {register} = {call};\n  if ({register}) {{")
            }
            Action::Fence => format!("atomic_thread_fence({order});"),
            Action::When(register, is_equal, value) => {
                self.open_blocks += 1;
                format!("if ({register} {} {value}) {{", if *is_equal { "==" } else { "!=" })
            }
        }
    }

    fn register(&mut self, step: &Step) -> String {
        self.unused += usize::from(step.into.is_none());
        step.into.clone().unwrap_or_else(|| format!("unused{}", self.unused))
    }
}

fn name(order: Order) -> &'static str {
    match order {
        Order::Plain => "",
        Order::Relaxed => "memory_order_relaxed",
        Order::Acquire => "memory_order_acquire",
        Order::Release => "memory_order_release",
        Order::AcqRel => "memory_order_acq_rel",
        Order::SeqCst => "memory_order_seq_cst",
    }
}

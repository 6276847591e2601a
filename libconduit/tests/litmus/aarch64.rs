//! A test in AArch64's instructions, as LLVM translates Rust's atomics: with LSE (8.1) and RCpc
//! (8.3), or with neither. The first has the weaker loads, the second the weaker
//! read-modify-writes.

use std::fmt::Write;

use super::pair::{Action, Operation, Order, Pair, Step, Thread};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// One instruction per read-modify-write, `LDAPR` for an acquire load.
    Lse,
    /// Exclusive loads and stores, `LDAR` for an acquire load. The loop ends in its first round: a
    /// failed round adds accesses and orders more, not less.
    LoadLinked,
}

/// The text of a test.
pub fn program(pair: &Pair, instructions: Instructions) -> String {
    let words: Vec<_> = pair.words().into_iter().map(|(word, _)| word).collect();
    let mut start: String = pair.start.iter().map(|(word, value)| format!(" {word}={value};")).collect();
    let mut columns = Vec::new();
    for (index, thread) in pair.threads.iter().enumerate() {
        for (register, word) in words.iter().enumerate() {
            let _ = write!(start, " {index}:X{}={word};", FIRST_ADDRESS + register);
        }
        columns.push(Writer::column(index, thread, &words, instructions));
    }
    let rows = columns.iter().map(Vec::len).max().unwrap_or_default();
    let mut code = String::new();
    for row in 0..rows {
        let cells: Vec<_> = columns.iter().map(|column| column.get(row).map_or("", String::as_str)).collect();
        let _ = writeln!(code, "{} ;", cells.join(" | "));
    }
    let condition = pair.condition(DONE, |thread, name| format!("X{}", register_of(thread, name)));
    format!("AArch64 {}\n{{{start} }}\n{code}{condition}", pair.name)
}

/// Registers from here on hold the words' addresses, and those of a thread's results come first.
const FIRST_ADDRESS: usize = 20;
/// Registers from here on hold constants and states.
const FIRST_SCRATCH: usize = 8;
const END_OF_SCRATCH: usize = 19;
/// Is 1 at the end of a thread.
pub const DONE: &str = "X19";

/// The number of the register for a result.
fn register_of(thread: &Thread, name: &str) -> usize {
    let mut names = thread.steps.iter().filter_map(|step| step.into.as_deref());
    let index = names.position(|it| it == name).unwrap_or_else(|| panic!("{}: no {name}", thread.name));
    assert!(index < FIRST_SCRATCH, "{}: too many registers", thread.name);
    index
}

struct Writer<'a> {
    thread: &'a Thread,
    words: &'a [&'a str],
    instructions: Instructions,
    column: Vec<String>,
    scratch: usize,
    end: String,
}

impl<'a> Writer<'a> {
    fn column(index: usize, thread: &'a Thread, words: &'a [&'a str], instructions: Instructions) -> Vec<String> {
        let column = vec![format!("P{index}")];
        let end = format!("End{index}");
        let mut writer = Self { thread, words, instructions, column, scratch: FIRST_SCRATCH, end };
        for step in &thread.steps {
            writer.step(step);
        }
        writer.emit(format!("MOV {DONE},#1"));
        writer.column.push(format!("{}:", writer.end));
        writer.column
    }

    fn emit(&mut self, instruction: impl Into<String>) {
        self.column.push(instruction.into());
    }

    fn step(&mut self, step: &Step) {
        let (acquires, releases) = (step.order.acquires(), step.order.releases());
        let address = step.action.word().map_or(String::new(), |word| self.address(word));
        match &step.action {
            Action::Load(_) => {
                let load = match self.instructions {
                    _ if !acquires => "LDR",
                    Instructions::Lse if step.order == Order::Acquire => "LDAPR",
                    _ => "LDAR",
                };
                let result = self.result(step);
                self.emit(format!("{load} {result},{address}"));
            }
            Action::Store(_, value) => {
                let value = self.constant(*value);
                self.emit(format!("{} {value},{address}", if releases { "STLR" } else { "STR" }));
            }
            Action::Modify(operation, _, value) => self.modify(step, *operation, *value, &address),
            Action::CompareExchange(_, [old, new]) => self.compare_exchange(step.order, [*old, *new], &address),
            // Only a fence that does not release lets earlier loads alone wait.
            Action::Fence => self.emit(if releases { "DMB ISH" } else { "DMB ISHLD" }),
            Action::When(register, is_equal, value) => {
                let register = register_of(self.thread, register);
                let branch = if *is_equal { "B.NE" } else { "B.EQ" };
                self.emit(format!("CMP W{register},#{value}"));
                self.emit(format!("{branch} {}", self.end));
            }
        }
    }

    fn modify(&mut self, step: &Step, operation: Operation, value: u32, address: &str) {
        let result = self.result(step);
        let value = self.constant(value);
        let suffix = suffix(step.order);
        if self.instructions == Instructions::Lse {
            let name = match operation {
                Operation::Swap => "SWP",
                Operation::Add => "LDADD",
                Operation::Or => "LDSET",
                Operation::AndNot => "LDCLR",
            };
            // Never into the zero register, which would take the acquire away: LLVM knows that too.
            return self.emit(format!("{name}{suffix} {value},{result},{address}"));
        }
        self.load_linked(step.order, &result, address);
        let name = match operation {
            Operation::Swap => return self.store_conditional(step.order, &value, address),
            Operation::Add => "ADD",
            Operation::Or => "ORR",
            Operation::AndNot => "BIC",
        };
        let new = self.scratch();
        self.emit(format!("{name} {new},{result},{value}"));
        self.store_conditional(step.order, &new, address);
    }

    fn compare_exchange(&mut self, order: Order, [old, new]: [u32; 2], address: &str) {
        if self.instructions == Instructions::Lse {
            let found = self.constant(old);
            let new = self.constant(new);
            self.emit(format!("CAS{} {found},{new},{address}", suffix(order)));
            self.emit(format!("CMP {found},#{old}"));
            return self.emit(format!("B.NE {}", self.end));
        }
        let found = self.scratch();
        self.load_linked(order, &found, address);
        self.emit(format!("CMP {found},#{old}"));
        self.emit(format!("B.NE {}", self.end));
        let new = self.constant(new);
        self.store_conditional(order, &new, address);
    }

    fn load_linked(&mut self, order: Order, into: &str, address: &str) {
        self.emit(format!("{} {into},{address}", if order.acquires() { "LDAXR" } else { "LDXR" }));
    }

    fn store_conditional(&mut self, order: Order, value: &str, address: &str) {
        let status = self.scratch();
        self.emit(format!("{} {status},{value},{address}", if order.releases() { "STLXR" } else { "STXR" }));
        self.emit(format!("CBNZ {status},{}", self.end));
    }

    fn address(&self, word: &str) -> String {
        let index = self.words.iter().position(|it| *it == word);
        format!("[X{}]", FIRST_ADDRESS + index.expect("all words are listed"))
    }

    fn result(&mut self, step: &Step) -> String {
        match &step.into {
            Some(name) => format!("W{}", register_of(self.thread, name)),
            None => self.scratch(),
        }
    }

    fn constant(&mut self, value: u32) -> String {
        let register = self.scratch();
        self.emit(format!("MOV {register},#{value}"));
        register
    }

    fn scratch(&mut self) -> String {
        let register = self.scratch;
        assert!(register < END_OF_SCRATCH, "{}: too many steps", self.thread.name);
        self.scratch += 1;
        format!("W{register}")
    }
}

fn suffix(order: Order) -> &'static str {
    match (order.acquires(), order.releases()) {
        (false, false) => "",
        (true, false) => "A",
        (false, true) => "L",
        (true, true) => "AL",
    }
}

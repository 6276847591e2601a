//! The notation of the tests, see [`super`]: parsed, and weakened.

use std::str::FromStr;

use super::herd::{MODELS, Verdict};

/// A litmus test.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Its file's name, without the extension.
    pub name: String,
    /// Values of words at the start, if not 0.
    pub start: Vec<(String, u32)>,
    pub threads: Vec<Thread>,
    /// Outcomes that must not be: each is a list of facts that hold together.
    pub bad: Vec<Vec<Fact>>,
    pub forms: Vec<Form>,
}

#[derive(Clone, Debug)]
pub struct Thread {
    pub name: String,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub labels: Vec<String>,
    /// The register that takes the result.
    pub into: Option<String>,
    pub action: Action,
    pub order: Order,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Not atomic, if the order is [`Order::Plain`].
    Load(String),
    /// As for `Load`.
    Store(String, u32),
    /// Results in the old value.
    Modify(Operation, String, u32),
    /// Replaces the first value with the second. A failure ends the thread.
    CompareExchange(String, [u32; 2]),
    Fence,
    /// Ends the thread unless a register has (`true`) or has not (`false`) a value.
    When(String, bool, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Swap,
    Add,
    Or,
    /// Clears the bits that are given.
    AndNot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Plain,
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    SeqCst,
}

impl Order {
    pub fn acquires(self) -> bool {
        matches!(self, Self::Acquire | Self::AcqRel | Self::SeqCst)
    }

    pub fn releases(self) -> bool {
        matches!(self, Self::Release | Self::AcqRel | Self::SeqCst)
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "relaxed" => Ok(Self::Relaxed),
            "acquire" => Ok(Self::Acquire),
            "release" => Ok(Self::Release),
            "acq-rel" => Ok(Self::AcqRel),
            "seq-cst" => Ok(Self::SeqCst),
            _ => Err(format!("{text} is no ordering")),
        }
    }
}

/// The final value of a register of a thread, or of a word.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The thread's index.
    pub thread: Option<usize>,
    pub of: String,
    pub value: u32,
}

/// The test as it stands, or weakened, and what each of [`MODELS`] says of it.
#[derive(Clone, Debug)]
pub struct Form {
    pub name: String,
    /// Labels, each with its ordering; `None` leaves the step out.
    changes: Vec<(String, Option<Order>)>,
    pub expected: [Verdict; MODELS.len()],
}

impl Form {
    pub fn is_weakened(&self) -> bool {
        !self.changes.is_empty()
    }
}

impl Pair {
    /// Parses a file.
    ///
    /// # Errors
    ///
    /// The line, and what is wrong with it or with the whole.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (start, threads, bad, forms) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        let mut pair = Self { name: name.to_owned(), start, threads, bad, forms };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            pair.parse_line(line).map_err(|error| format!("{name}, line {}: {error}", index + 1))?;
        }
        pair.check().map_err(|error| format!("{name}: {error}"))?;
        Ok(pair)
    }

    fn parse_line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        match keyword {
            "" => {}
            "start" => {
                let words = facts(rest, |of| Ok((of.to_owned(), None)))?;
                self.start = words.into_iter().map(|it| (it.of, it.value)).collect();
            }
            "thread" => self.threads.push(Thread { name: rest.trim().to_owned(), steps: Vec::new() }),
            "bad" => {
                let fact = facts(rest, |of| self.variable(of))?;
                self.bad.push(fact);
            }
            "form" => self.forms.push(form(rest)?),
            _ => {
                let thread = self.threads.last_mut().ok_or("a step outside of a thread")?;
                thread.steps.push(step(line)?);
            }
        }
        Ok(())
    }

    /// `thread.register` or `word`.
    fn variable(&self, text: &str) -> Result<(String, Option<usize>), String> {
        let Some((thread, register)) = text.split_once('.') else { return Ok((text.to_owned(), None)) };
        let index = self.threads.iter().position(|it| it.name == thread);
        Ok((register.to_owned(), Some(index.ok_or_else(|| format!("no thread {thread}"))?)))
    }

    fn check(&self) -> Result<(), String> {
        let stands = self.forms.first().is_some_and(|form| !form.is_weakened());
        if !stands || self.forms[0].expected != [Verdict::Never; MODELS.len()] {
            return Err("the first form must be the test as it stands, which is never wrong".into());
        }
        let can_fail = |form: &Form| form.expected.contains(&Verdict::Sometimes);
        if !self.forms[1..].iter().all(Form::is_weakened) || !self.forms.iter().any(can_fail) {
            return Err("no weakened form is wrong, so the test cannot fail".into());
        }
        if self.bad.is_empty() {
            return Err("no bad outcome".into());
        }
        for (label, _) in self.forms.iter().flat_map(|form| &form.changes) {
            if !self.steps().any(|step| step.labels.contains(label)) {
                return Err(format!("no step {label}"));
            }
        }
        Ok(())
    }

    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.threads.iter().flat_map(|thread| &thread.steps)
    }

    /// All words, with whether they are atomic.
    pub fn words(&self) -> Vec<(&str, bool)> {
        let mut words: Vec<_> =
            self.steps().filter_map(|step| Some((step.action.word()?, step.order != Order::Plain))).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// The condition for herd7: one of the bad outcomes, and every thread has come to its end,
    /// where its register `done` is 1.
    pub fn condition(&self, done: &str, register: impl Fn(&Thread, &str) -> String) -> String {
        let variable = |fact: &Fact| match fact.thread {
            Some(index) => format!("{index}:{}={}", register(&self.threads[index], &fact.of), fact.value),
            None => format!("{}={}", fact.of, fact.value),
        };
        let all = |facts: &Vec<Fact>| facts.iter().map(variable).collect::<Vec<_>>().join(" /\\ ");
        let bad = self.bad.iter().map(|facts| format!("({})", all(facts))).collect::<Vec<_>>().join(" \\/ ");
        let ends: String = (0..self.threads.len()).map(|index| format!(" /\\ {index}:{done}=1")).collect();
        format!("exists (({bad}){ends})\n")
    }

    /// This test in one of its forms.
    pub fn in_form(&self, form: &Form) -> Self {
        let mut pair = self.clone();
        let change_of = |step: &Step| form.changes.iter().find(|(label, _)| step.labels.contains(label));
        for thread in &mut pair.threads {
            thread.steps.retain(|step| !matches!(change_of(step), Some((_, None))));
            for step in &mut thread.steps {
                if let Some((_, Some(order))) = change_of(step) {
                    step.order = *order;
                }
            }
        }
        pair
    }
}

impl Action {
    /// The word that it accesses.
    pub fn word(&self) -> Option<&str> {
        match self {
            Self::Load(word) | Self::Store(word, _) | Self::Modify(_, word, _) | Self::CompareExchange(word, _) => {
                Some(word)
            }
            Self::Fence | Self::When(..) => None,
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// `name = number`, separated by commas.
fn facts(text: &str, variable: impl Fn(&str) -> Result<(String, Option<usize>), String>) -> Result<Vec<Fact>, String> {
    let fact = |part: &str| {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("no value in {part}"))?;
        let (of, thread) = variable(name.trim())?;
        Ok(Fact { thread, of, value: number(value.trim())? })
    };
    text.split(',').map(fact).collect()
}

fn step(line: &str) -> Result<Step, String> {
    let (labels, line) = line.split_once(':').unwrap_or(("", line));
    let labels = labels.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect();
    let (into, line) = match line.split_once(" = ") {
        Some((register, rest)) => (Some(register.trim().to_owned()), rest),
        None => (None, line),
    };
    let words: Vec<_> = line.split_whitespace().collect();
    let modify =
        |operation, at: &str, value: &str| Ok::<_, String>(Action::Modify(operation, at.into(), number(value)?));
    let (action, order) = match *words {
        ["read", at] => (Action::Load(at.into()), None),
        ["write", at, value] => (Action::Store(at.into(), number(value)?), None),
        ["when", register, "is", value] => (Action::When(register.into(), true, number(value)?), None),
        ["when", register, "is-not", value] => (Action::When(register.into(), false, number(value)?), None),
        ["load", at, order] => (Action::Load(at.into()), Some(order)),
        ["store", at, value, order] => (Action::Store(at.into(), number(value)?), Some(order)),
        ["swap", at, value, order] => (modify(Operation::Swap, at, value)?, Some(order)),
        ["fetch_add", at, value, order] => (modify(Operation::Add, at, value)?, Some(order)),
        ["fetch_or", at, value, order] => (modify(Operation::Or, at, value)?, Some(order)),
        ["fetch_and", at, value, order] if value.starts_with('!') => {
            (modify(Operation::AndNot, at, &value[1..])?, Some(order))
        }
        ["compare_exchange", at, old, new, order] => {
            (Action::CompareExchange(at.into(), [number(old)?, number(new)?]), Some(order))
        }
        ["fence", order] => (Action::Fence, Some(order)),
        _ => return Err(format!("not understood: {}", line.trim())),
    };
    let order = order.map_or(Ok(Order::Plain), str::parse)?;
    Ok(Step { labels, into, action, order })
}

/// `as it stands: never ...`, or `W1 relaxed, W2 left out: sometimes ...`.
fn form(text: &str) -> Result<Form, String> {
    let (name, verdicts) = text.split_once(':').ok_or("a form without verdicts")?;
    let change = |part: &str| match *part.split_whitespace().collect::<Vec<_>>() {
        [label, "left", "out"] => Ok((label.to_owned(), None)),
        [label, order] => Ok((label.to_owned(), Some(order.parse()?))),
        _ => Err(format!("no change: {part}")),
    };
    let name = name.trim().to_owned();
    let changes =
        if name == "as it stands" { Vec::new() } else { name.split(',').map(change).collect::<Result<_, _>>()? };
    let verdicts = verdicts.split_whitespace().map(str::parse).collect::<Result<Vec<_>, String>>()?;
    let expected = verdicts.try_into().map_err(|_| format!("not {} verdicts", MODELS.len()))?;
    Ok(Form { name, changes, expected })
}

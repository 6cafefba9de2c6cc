//! From a profile to a program: which rules hold, which numbers they are about, and a search tree over the numbers.
//!
//! The numbers of one architecture are cut into ranges with the same answer; the program finds a call's range by
//! halving, and answers. Two habits of Docker's runtime are kept: a call newer than the newest one that the profile
//! names fails with ENOSYS instead of the default (so a C library falls back to an older call), and an architecture
//! that the profile does not list ends the thread.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::arch::X32_BIT;
use super::bpf::{Instruction, MOST_INSTRUCTIONS};
use super::{Action, Arch, Condition, Operator, Profile, Program, Rule, SeccompError};
use crate::capability::Capabilities;

const ENOSYS: u16 = 38;
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// A kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl FromStr for KernelVersion {
    type Err = SeccompError;

    /// `5.15`, or a release such as `6.1.0-30-amd64`.
    fn from_str(text: &str) -> Result<KernelVersion, SeccompError> {
        let digits = |part: &str| {
            let end = part.find(|one: char| !one.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let mut parts = text.splitn(3, '.').map(digits);
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Ok(KernelVersion { major, minor }),
            _ => Err(SeccompError::Kernel(text.to_owned())),
        }
    }
}

/// What a profile is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The machine.
    pub arch: Arch,
    /// Its kernel.
    pub kernel: KernelVersion,
    /// The container's bounding set.
    pub capabilities: Capabilities,
}

/// What is known of one system call: an answer, or alternatives under conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    always: Option<Action>,
    alternatives: Vec<(Vec<Condition>, Action)>,
}

/// Numbers from `start` to the next range's start.
struct Range {
    start: u32,
    entry: Entry,
}

impl Profile {
    /// The program, or nothing for a profile that lets everything through.
    pub fn compile(&self, context: &Context) -> Result<Option<Program>, SeccompError> {
        if self.rules.is_empty() && self.default_action == Action::Allow {
            return Ok(None);
        }
        let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.applies(context)).collect();
        let arches = self.arches(context.arch);
        let mut code = vec![Instruction::load(ARCH)];
        for arch in arches.iter().filter(|arch| **arch != Arch::X32) {
            let mut ranges = self.ranges(*arch, &rules);
            if *arch == Arch::X86_64 {
                ranges.extend(self.x32_ranges(&arches, &rules));
            }
            let mut section = vec![Instruction::load(NUMBER)];
            section.extend(tree(&ranges, self.default_action, arch.is_narrow()));
            code.extend([Instruction::if_equal(arch.audit(), 1, 0), Instruction::skip(section.len())]);
            code.extend(section);
        }
        code.push(Instruction::answer(Action::KillThread.code()));
        match code.len() {
            sound if sound <= MOST_INSTRUCTIONS => Ok(Some(Program::new(code))),
            long => Err(SeccompError::TooLong(long)),
        }
    }

    /// The machine's own architecture and those that the profile adds.
    fn arches(&self, native: Arch) -> Vec<Arch> {
        let mapped = self.arch_map.iter().find(|(main, _)| Arch::from_profile_name(main) == Some(native));
        let more = mapped.map(|(_, more)| more.as_slice()).unwrap_or_default();
        let named = self.architectures.iter().chain(more).filter_map(|name| Arch::from_profile_name(name));
        let mut arches = vec![native];
        for arch in named {
            if !arches.contains(&arch) {
                arches.push(arch);
            }
        }
        arches
    }

    fn x32_ranges(&self, arches: &[Arch], rules: &[&Rule]) -> Vec<Range> {
        if arches.contains(&Arch::X32) {
            return self.ranges(Arch::X32, rules);
        }
        let range = |start: u32, action: Action| Range { start, entry: Entry::always(action) };
        let mut ranges = vec![range(X32_BIT, Action::KillThread)];
        if self.is_stubbed() {
            // Numbers without x32's bit are too new rather than of another architecture.
            ranges.extend([range(X32_BIT << 1, Action::Errno(ENOSYS)), range(X32_BIT * 3, Action::KillThread)]);
        }
        // -1 is how a tracer marks a call to be skipped.
        ranges.push(range(u32::MAX, self.default_action));
        ranges
    }

    /// Whether calls newer than the profile fail with ENOSYS.
    fn is_stubbed(&self) -> bool {
        !self.default_action.is_permissive() && self.default_action != Action::Errno(ENOSYS)
    }

    fn ranges(&self, arch: Arch, rules: &[&Rule]) -> Vec<Range> {
        let (calls, last) = self.calls(arch, rules);
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        let default = Entry::always(self.default_action);
        let mut ranges = vec![Range { start: base, entry: default.clone() }];
        for (number, entry) in calls {
            push(&mut ranges, number, entry);
            push(&mut ranges, number + 1, default.clone());
        }
        if let Some(last) = last.filter(|_| self.is_stubbed()) {
            push(&mut ranges, last + 1, Entry::always(Action::Errno(ENOSYS)));
        }
        ranges
    }

    /// Every call that a rule is about, and the highest number that the profile names.
    fn calls(&self, arch: Arch, rules: &[&Rule]) -> (BTreeMap<u32, Entry>, Option<u32>) {
        let mut calls: BTreeMap<u32, Entry> = BTreeMap::new();
        let mut last = None;
        for rule in rules {
            for name in &rule.names {
                let number = arch.number(name);
                last = last.max(number);
                if rule.action == self.default_action {
                    continue;
                }
                if let Some(number) = number {
                    calls.entry(number).or_default().add(&rule.conditions, rule.action);
                }
                if let Some((number, call)) = arch.multiplexed(name) {
                    let which = Condition { index: 0, operator: Operator::Equal, value: call, value_two: 0 };
                    calls.entry(number).or_default().add(&[which], rule.action);
                }
            }
        }
        (calls, last)
    }
}

impl Entry {
    fn always(action: Action) -> Entry {
        Entry { always: Some(action), alternatives: Vec::new() }
    }

    /// An answer without conditions stands above those with conditions, and the first above later ones.
    fn add(&mut self, conditions: &[Condition], action: Action) {
        let repeated = |one: &Condition| conditions.iter().filter(|other| other.index == one.index).count() > 1;
        if conditions.is_empty() {
            self.always.get_or_insert(action);
        } else if conditions.iter().any(repeated) {
            self.alternatives.extend(conditions.iter().map(|one| (vec![*one], action)));
        } else {
            self.alternatives.push((conditions.to_vec(), action));
        }
    }

    fn code(&self, default: Action, narrow: bool) -> Vec<Instruction> {
        let Some(action) = self.always else {
            let mut code: Vec<Instruction> =
                self.alternatives.iter().flat_map(|(all, action)| alternative(all, *action, narrow)).collect();
            code.push(Instruction::answer(default.code()));
            return code;
        };
        vec![Instruction::answer(action.code())]
    }
}

/// Adds a range, in place of one that begins at the same number, and not if it says what the one before says.
fn push(ranges: &mut Vec<Range>, start: u32, entry: Entry) {
    if ranges.last().is_some_and(|range| range.start == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|range| range.entry != entry) {
        ranges.push(Range { start, entry });
    }
}

/// Halves the ranges until one is left. The number is in the accumulator.
fn tree(ranges: &[Range], default: Action, narrow: bool) -> Vec<Instruction> {
    match ranges {
        [] => vec![Instruction::answer(default.code())],
        [one] => one.entry.code(default, narrow || one.start >= X32_BIT),
        several => {
            let (low, high) = several.split_at(several.len() / 2);
            let below = tree(low, default, narrow);
            let mut code = match u8::try_from(below.len()) {
                Ok(near) => vec![Instruction::if_at_least(high[0].start, near, 0)],
                Err(_) => {
                    vec![Instruction::if_at_least(high[0].start, 0, 1), Instruction::skip(below.len())]
                }
            };
            code.extend(below);
            code.extend(tree(high, default, narrow));
            code
        }
    }
}

/// Answers if every condition holds, else goes on behind it.
fn alternative(conditions: &[Condition], action: Action, narrow: bool) -> Vec<Instruction> {
    let mut code = vec![Instruction::answer(action.code())];
    for condition in conditions.iter().rev() {
        let mut test = test(condition, code.len(), narrow);
        test.extend(code);
        code = test;
    }
    code
}

/// Falls through if the condition holds, else skips `rest` instructions after it.
fn test(condition: &Condition, rest: usize, narrow: bool) -> Vec<Instruction> {
    let offset = 16 + 8 * u32::from(condition.index);
    let little = cfg!(target_endian = "little");
    let (low, high) = if little { (offset, offset + 4) } else { (offset + 4, offset) };
    let words = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = words(condition.value);
    let (two_high, two_low) = words(condition.value_two);
    let rest = u8::try_from(rest).unwrap_or(u8::MAX);
    use Instruction as I;
    match (condition.operator, narrow) {
        (Operator::Equal, true) => vec![I::load(low), I::if_equal(value_low, 0, rest)],
        (Operator::Equal, false) => {
            vec![I::load(high), I::if_equal(value_high, 0, rest + 2), I::load(low), I::if_equal(value_low, 0, rest)]
        }
        (Operator::NotEqual, true) => vec![I::load(low), I::if_equal(value_low, rest, 0)],
        (Operator::NotEqual, false) => {
            vec![I::load(high), I::if_equal(value_high, 0, 2), I::load(low), I::if_equal(value_low, rest, 0)]
        }
        (Operator::MaskedEqual, true) => vec![I::load(low), I::and(value_low), I::if_equal(two_low, 0, rest)],
        (Operator::MaskedEqual, false) => vec![
            I::load(high),
            I::and(value_high),
            I::if_equal(two_high, 0, rest + 3),
            I::load(low),
            I::and(value_low),
            I::if_equal(two_low, 0, rest),
        ],
        (operator, narrow) => order(operator, (low, high), (value_low, value_high), rest, narrow),
    }
}

/// <, ≤, ≥ and >, unsigned.
fn order(
    operator: Operator,
    (low, high): (u32, u32),
    (value_low, value_high): (u32, u32),
    rest: u8,
    narrow: bool,
) -> Vec<Instruction> {
    use Instruction as I;
    let upward = matches!(operator, Operator::Greater | Operator::GreaterOrEqual);
    let strict = matches!(operator, Operator::Greater | Operator::LessOrEqual);
    let last = |on_true: u8, on_false: u8| match strict {
        true => I::if_greater(value_low, on_true, on_false),
        false => I::if_at_least(value_low, on_true, on_false),
    };
    let (on_true, on_false) = if upward { (0, rest) } else { (rest, 0) };
    if narrow {
        return vec![I::load(low), last(on_true, on_false)];
    }
    // Greater high words decide; equal ones leave it to the low words.
    let (above, below) = if upward { (3, rest + 2) } else { (rest + 3, 2) };
    vec![
        I::load(high),
        I::if_greater(value_high, above, 0),
        I::if_equal(value_high, 0, below),
        I::load(low),
        last(on_true, on_false),
    ]
}

//! The device cgroup: rules, v1's files, and the eBPF program that does their work on v2.
//!
//! [`program`] is a pure function. Loading and attaching it needs `bpf(2)`, for which there is no safe wrapper, so the
//! caller brings an [`Attach`]. Programs of the cgroups above are run too (they are attached with
//! `BPF_F_ALLOW_MULTI`), and every one must agree: a container can't have what its host lacks.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::file;
use crate::group::Home;
use crate::{Cgroup, CgroupError};

/// One rule: `c 1:3 rwm`, with `*` for any number; written with a `-` before it, it denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// `c`, `b`, or `a` for both.
    pub kind: Kind,
    /// Driver; `None` for any.
    pub major: Option<u32>,
    /// Device; `None` for any.
    pub minor: Option<u32>,
    /// Accesses as bits: 1 make, 2 read, 4 write.
    pub access: u8,
}

/// Which kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Both.
    All,
    /// Block.
    Block,
    /// Character.
    Char,
}

/// A rule in a wrong form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid device rule {0:?}: it must be of the form \"c 1:3 rwm\"")]
pub struct InvalidRule(String);

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Rule, InvalidRule> {
        parse(text).ok_or_else(|| InvalidRule(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Rule> {
    let (allow, rest) = text.strip_prefix('-').map_or((true, text), |rest| (false, rest));
    let mut words = rest.split(' ');
    let kind = match words.next()? {
        "a" => Kind::All,
        "b" => Kind::Block,
        "c" => Kind::Char,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |digits: &str| if digits == "*" { Some(None) } else { digits.parse().ok().map(Some) };
    let bit = |bits: u8, letter: char| {
        Some(bits | [('m', 1), ('r', 2), ('w', 4)].iter().find(|(known, _)| *known == letter)?.1)
    };
    let access = words.next()?.chars().try_fold(0, bit).filter(|bits| *bits != 0)?;
    let rule = Rule { allow, kind, major: number(major)?, minor: number(minor)?, access };
    words.next().is_none().then_some(rule)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |one: Option<u32>| one.map_or("*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let sign = if self.allow { "" } else { "-" };
        write!(f, "{sign}{kind} {}:{} ", number(self.major), number(self.minor))?;
        [(2, "r"), (4, "w"), (1, "m")].iter().try_for_each(|(bit, letter)| match self.access & bit {
            0 => Ok(()),
            _ => f.write_str(letter),
        })
    }
}

impl Rule {
    fn is_everything(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == 7
    }

    fn is_open(rules: &[Rule]) -> bool {
        rules.iter().rev().find(|rule| !rule.allow || rule.is_everything()).is_some_and(|rule| rule.allow)
    }
}

/// One eBPF instruction, `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Register written.
    pub to: u8,
    /// Register read.
    pub from: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Constant.
    pub value: i32,
}

impl Instruction {
    /// As the kernel reads it, in the machine's byte order.
    pub fn bytes(self) -> [u8; 8] {
        let little = cfg!(target_endian = "little");
        let registers = if little { self.to | self.from << 4 } else { self.to << 4 | self.from };
        let ([a, b], [c, d, e, f]) = (self.offset.to_ne_bytes(), self.value.to_ne_bytes());
        [self.code, registers, a, b, c, d, e, f]
    }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const IF_NOT_CONSTANT: u8 = 0x55;
const IF_NOT_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Kind, accesses, major and minor number are loaded into these.
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;
const RESULT: u8 = 0;

/// The program (`BPF_PROG_TYPE_CGROUP_DEVICE`) that answers as these rules do. Later rules win; what no rule is about
/// is refused.
///
/// A rule that allows needs all of the accesses asked for; one that denies needs any of them.
pub fn program(rules: &[Rule]) -> Vec<Instruction> {
    let one = |code, to, from, offset, value| Instruction { code, to, from, offset, value };
    let mut program = vec![
        one(LOAD_WORD, KIND, 1, 0, 0),
        one(MOVE, ACCESS, KIND, 0, 0),
        one(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        one(AND_32, KIND, 0, 0, 0xffff),
        one(LOAD_WORD, MAJOR, 1, 4, 0),
        one(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    // The first rule that matches answers, so the last one comes first. Behind one that speaks of everything nothing
    // can be reached, which the kernel's verifier refuses.
    for rule in rules.iter().rev() {
        program.extend(block(rule));
        if rule.is_everything() {
            return program;
        }
    }
    program.extend(answer(false));
    program
}

/// The program's bytes.
pub fn program_bytes(rules: &[Rule]) -> Vec<u8> {
    program(rules).into_iter().flat_map(Instruction::bytes).collect()
}

fn answer(allow: bool) -> [Instruction; 2] {
    let exit = Instruction { code: EXIT, to: 0, from: 0, offset: 0, value: 0 };
    [Instruction { code: MOVE_CONSTANT, to: RESULT, from: 0, offset: 0, value: i32::from(allow) }, exit]
}

/// Answers if the rule matches, else goes on behind it.
fn block(rule: &Rule) -> Vec<Instruction> {
    let one = |code, to, from, value| Instruction { code, to, from, offset: 0, value };
    let mut tests = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => tests.push(one(IF_NOT_CONSTANT, KIND, 0, 1)),
        Kind::Char => tests.push(one(IF_NOT_CONSTANT, KIND, 0, 2)),
    }
    if rule.access != 7 {
        let bits = i32::from(rule.access);
        tests.push(one(MOVE, SCRATCH, ACCESS, 0));
        tests.push(one(AND_32, SCRATCH, 0, bits));
        match rule.allow {
            // Nothing is asked for that the rule does not allow.
            true => tests.push(one(IF_NOT_REGISTER, SCRATCH, ACCESS, 0)),
            // Something is asked for that the rule denies; the jump is turned round below.
            false => tests.push(one(IF_ZERO, SCRATCH, 0, 0)),
        }
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        // Numbers have at most 20 bits, so none is negative as a constant.
        tests.extend(number.map(|number| one(IF_NOT_CONSTANT, register, 0, i32::try_from(number).unwrap_or(i32::MAX))));
    }
    let length = tests.len();
    for (at, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, IF_NOT_CONSTANT | IF_NOT_REGISTER | IF_ZERO) {
            test.offset = i16::try_from(length - at - 1 + 2).unwrap_or(i16::MAX);
        }
    }
    tests.extend(answer(rule.allow));
    tests
}

/// `jeq` with a constant: jumps if equal.
const IF_ZERO: u8 = 0x15;

/// Loads a device program and attaches it to a v2 cgroup, with the flag `BPF_F_ALLOW_MULTI`, in place of the one that
/// it attached there before.
pub trait Attach {
    /// Does it. `program` is an array of `struct bpf_insn`.
    fn attach(&self, cgroup: &Path, program: &[u8]) -> io::Result<()>;
}

impl<F: Fn(&Path, &[u8]) -> io::Result<()>> Attach for F {
    fn attach(&self, cgroup: &Path, program: &[u8]) -> io::Result<()> {
        self(cgroup, program)
    }
}

impl Cgroup {
    /// Lets the processes in it use these devices and no others. Later rules win.
    ///
    /// On v1, the kernel refuses a rule that is wider than those of the cgroup above; on v2 it runs both programs.
    pub fn set_devices(&self, rules: &[Rule], attach: &dyn Attach) -> Result<(), CgroupError> {
        match (self.home("devices"), self.unified_dir()) {
            (Some(Home::Legacy(dir)), _) => set_v1(&dir, rules),
            (_, Some(dir)) => {
                let failed = |source| CgroupError::Devices { path: dir.clone(), source };
                attach.attach(&dir, &program_bytes(rules)).map_err(failed)
            }
            _ => {
                Err(CgroupError::NoController { controller: "devices", what: "devices can't be kept from a container" })
            }
        }
    }
}

fn set_v1(dir: &Path, rules: &[Rule]) -> Result<(), CgroupError> {
    if !Rule::is_open(rules) {
        file::write(&dir.join("devices.deny"), "a")?;
    }
    for rule in rules {
        let name = if rule.allow { "devices.allow" } else { "devices.deny" };
        let line = if rule.is_everything() { "a".to_owned() } else { Rule { allow: true, ..*rule }.to_string() };
        // The kernel takes no letter for both kinds but in the rule for everything.
        match (rule.kind, rule.is_everything()) {
            (Kind::All, false) => {
                for kind in [Kind::Char, Kind::Block] {
                    file::write(&dir.join(name), &Rule { kind, allow: true, ..*rule }.to_string())?;
                }
            }
            _ => file::write(&dir.join(name), &line)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What the kernel's rules mean, said plainly.
    fn expected(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let speaks = |rule: &Rule| {
            let kinds = rule.kind == Kind::All || rule.kind == kind;
            let numbers = rule.major.is_none_or(|one| one == major) && rule.minor.is_none_or(|one| one == minor);
            let accesses = if rule.allow { access & !rule.access == 0 } else { access & rule.access != 0 };
            kinds && numbers && accesses
        };
        rules.iter().rev().find(|rule| speaks(rule)).is_some_and(|rule| rule.allow)
    }

    /// Runs a program as the kernel's interpreter would, and refuses what its verifier would.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [u64::from(access) << 16 | kind, u64::from(major), u64::from(minor)];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let one = program[at];
            at += 1;
            let (to, from) = (usize::from(one.to), usize::from(one.from));
            let constant = u64::try_from(one.value).unwrap();
            let jump = usize::try_from(one.offset).unwrap();
            match one.code {
                LOAD_WORD => registers[to] = context[jump / 4],
                MOVE => registers[to] = registers[from],
                MOVE_CONSTANT => registers[to] = constant,
                AND_32 => registers[to] &= constant,
                SHIFT_RIGHT_32 => registers[to] >>= constant,
                IF_NOT_CONSTANT if registers[to] != constant => at += jump,
                IF_ZERO if registers[to] == constant => at += jump,
                IF_NOT_REGISTER if registers[to] != registers[from] => at += jump,
                IF_NOT_CONSTANT | IF_ZERO | IF_NOT_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn a_program_answers_as_its_rules() {
        let sets: [&[&str]; 6] = [
            &[],
            &["a *:* rwm"],
            &["-a *:* rwm", "c *:* m", "b *:* m", "c 1:3 rwm", "c 5:* rw", "c 136:* rwm"],
            &["a *:* rwm", "-b 8:0 w", "-c 1:3 r"],
            &["c 1:3 rwm", "-c 1:3 w", "c 1:3 m"],
            &["b 8:* rw", "-a *:* rwm", "a 8:1 r"],
        ];
        for set in sets.map(rules) {
            let program = program(&set);
            for (kind, major, minor) in (0..200).flat_map(|n| [(Kind::Char, n % 140, n / 40), (Kind::Block, 8, n % 3)])
            {
                for access in 1..8 {
                    let (ours, right) =
                        (run(&program, kind, major, minor, access), expected(&set, kind, major, minor, access));
                    assert_eq!(ours, right, "{set:?}: {kind:?} {major}:{minor} {access}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_can_be_reached() {
        // The kernel refuses a program with dead code.
        for set in [rules(&["c 1:3 r", "a *:* rwm", "c 1:5 r"]), rules(&["-a *:* rwm", "c 1:3 rwm"]), rules(&[])] {
            let program = program(&set);
            let mut reached = vec![false; program.len()];
            let mut next = vec![0];
            while let Some(at) = next.pop() {
                if std::mem::replace(&mut reached[at], true) || program[at].code == EXIT {
                    continue;
                }
                next.push(at + 1);
                if matches!(program[at].code, IF_NOT_CONSTANT | IF_ZERO | IF_NOT_REGISTER) {
                    next.push(at + 1 + usize::try_from(program[at].offset).unwrap());
                }
            }
            assert!(reached.iter().all(|one| *one), "{set:?}");
        }
    }

    #[test]
    fn text_goes_both_ways() {
        for text in ["c 1:3 rwm", "-b *:* m", "a 8:* r"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert!("c 1:3".parse::<Rule>().is_err() && "c 1:3 x".parse::<Rule>().is_err());
    }
}

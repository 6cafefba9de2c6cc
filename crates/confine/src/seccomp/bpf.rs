//! Classic BPF: instructions, programs, and an evaluator for tests and explanations.

use serde::{Deserialize, Serialize};

/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: the flag with which Docker's runtime loads a filter. Without it every process
/// under a filter would pay for the speculative-store mitigation.
pub const FILTER_FLAGS: u32 = 1 << 2;

/// The kernel's greatest length of a program.
pub(super) const MOST_INSTRUCTIONS: usize = 4096;
/// `SECCOMP_RET_TRACE`: with it begin the answers that may let a call through. KILL_PROCESS is above only as an
/// unsigned number.
const TRACE: u32 = 0x7ff0_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

const LD_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const AND: u16 = 0x54;
const RET: u16 = 0x06;

/// One instruction, `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many to skip if true.
    pub jump_true: u8,
    /// How many to skip if false.
    pub jump_false: u8,
    /// The operand.
    pub operand: u32,
}

impl Instruction {
    fn new(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
        Instruction { code, jump_true, jump_false, operand }
    }

    /// Load the 32-bit word at this offset of `struct seccomp_data`.
    pub(super) fn load(offset: u32) -> Instruction {
        Instruction::new(LD_ABS, 0, 0, offset)
    }

    pub(super) fn and(mask: u32) -> Instruction {
        Instruction::new(AND, 0, 0, mask)
    }

    pub(super) fn skip(count: usize) -> Instruction {
        Instruction::new(JA, 0, 0, u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(super) fn if_equal(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction::new(JEQ, jump_true, jump_false, operand)
    }

    pub(super) fn if_greater(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction::new(JGT, jump_true, jump_false, operand)
    }

    pub(super) fn if_at_least(operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
        Instruction::new(JGE, jump_true, jump_false, operand)
    }

    pub(super) fn answer(code: u32) -> Instruction {
        Instruction::new(RET, 0, 0, code)
    }

    /// As the kernel reads it, in the machine's byte order.
    pub fn bytes(self) -> [u8; 8] {
        let (code, operand) = (self.code.to_ne_bytes(), self.operand.to_ne_bytes());
        let [a, b, c, d] = operand;
        [code[0], code[1], self.jump_true, self.jump_false, a, b, c, d]
    }
}

/// What the kernel shows a filter: `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyscallData {
    /// The system call's number.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub audit_arch: u32,
    /// The arguments.
    pub arguments: [u64; 6],
}

impl SyscallData {
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            0 => Some(self.number),
            4 => Some(self.audit_arch),
            16..64 => {
                let argument = self.arguments[usize::try_from((offset - 16) / 8).ok()?];
                let high = (offset % 8 == 4) == cfg!(target_endian = "little");
                u32::try_from(if high { argument >> 32 } else { argument & 0xffff_ffff }).ok()
            }
            _ => None,
        }
    }
}

/// A filter as the kernel takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program(Vec<Instruction>);

impl Program {
    pub(super) fn new(instructions: Vec<Instruction>) -> Program {
        Program(instructions)
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// An array of `struct sock_filter`, eight bytes each, in the machine's byte order.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|one| one.bytes()).collect()
    }

    /// One program that refuses what either refuses: wherever this one lets a call through, `next` decides.
    ///
    /// Where this one would only log or ask a tracer, `next` decides too, so that nothing gets round it.
    fn followed_by(&self, next: &Program) -> Program {
        let length = self.0.len();
        let forward =
            |(at, one): (usize, &Instruction)| match one.code == RET && (TRACE..KILL_PROCESS).contains(&one.operand) {
                true => Instruction::skip(length - at - 1),
                false => *one,
            };
        Program(self.0.iter().enumerate().map(forward).chain(next.0.iter().copied()).collect())
    }

    /// As few programs as have the effect of all of these.
    ///
    /// The kernel runs all of a process's filters, but loading a second one needs the first one's leave, and each
    /// costs time at every call. So they are joined into one as far as the kernel's greatest length allows.
    pub fn stacked(programs: Vec<Program>) -> Vec<Program> {
        let mut stack: Vec<Program> = Vec::new();
        let mut seen: Vec<Program> = Vec::new();
        for program in programs {
            if seen.contains(&program) {
                continue;
            }
            let fits = |last: &Program| last.0.len() + program.0.len() <= MOST_INSTRUCTIONS;
            match stack.pop() {
                Some(last) if fits(&last) => stack.push(last.followed_by(&program)),
                Some(last) => stack.extend([last, program.clone()]),
                None => stack.push(program.clone()),
            }
            seen.push(program);
        }
        stack
    }

    /// What the program answers (`SECCOMP_RET_*` with its data); `None` if it is not a sound program.
    pub fn answer(&self, data: &SyscallData) -> Option<u32> {
        let mut at = 0usize;
        let mut accumulator = 0u32;
        loop {
            let one = self.0.get(at)?;
            let branch = |taken: bool| usize::from(if taken { one.jump_true } else { one.jump_false });
            at += 1;
            match one.code {
                LD_ABS => accumulator = data.word(one.operand)?,
                AND => accumulator &= one.operand,
                JA => at += usize::try_from(one.operand).ok()?,
                JEQ => at += branch(accumulator == one.operand),
                JGT => at += branch(accumulator > one.operand),
                JGE => at += branch(accumulator >= one.operand),
                RET => return Some(one.operand),
                _ => return None,
            }
        }
    }
}

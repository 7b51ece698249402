//! An assembler for the kernel's BPF machine: instructions as methods, labels, blocks.
//!
//! The encoding is that of RFC 9669: eight bytes per instruction, in this machine's byte order:
//! an opcode, two registers, a 16-bit offset and a 32-bit constant. All arithmetic here is on 64
//! bits; division is unsigned, and by zero it gives zero.

/// A register. `R1` to `R5` carry arguments and do not survive a call, `R0` carries its result,
/// `R6` to `R9` survive, and `R10` points at the end of a stack of 512 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// The second operand: a register or a constant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    Register(Register),
    Constant(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Register(register)
    }
}

impl From<i32> for Operand {
    fn from(constant: i32) -> Operand {
        Operand::Constant(constant)
    }
}

/// How much is loaded or stored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Width {
    /// Four bytes, extended with zeros.
    Word,
    /// Eight bytes.
    Double,
}

/// A comparison of two registers, or of a register and a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal,
    NotEqual,
    Below,
    AtMost,
    Above,
    AtLeast,
    /// The same on signed numbers.
    SignedBelow,
    SignedAtMost,
    SignedAbove,
    SignedAtLeast,
}

impl Is {
    const fn opcode(self) -> u8 {
        match self {
            Is::Equal => 0x10,
            Is::Above => 0x20,
            Is::AtLeast => 0x30,
            Is::NotEqual => 0x50,
            Is::SignedAbove => 0x60,
            Is::SignedAtLeast => 0x70,
            Is::Below => 0xa0,
            Is::AtMost => 0xb0,
            Is::SignedBelow => 0xc0,
            Is::SignedAtMost => 0xd0,
        }
    }

    const fn opposite(self) -> Is {
        match self {
            Is::Equal => Is::NotEqual,
            Is::NotEqual => Is::Equal,
            Is::Below => Is::AtLeast,
            Is::AtLeast => Is::Below,
            Is::Above => Is::AtMost,
            Is::AtMost => Is::Above,
            Is::SignedBelow => Is::SignedAtLeast,
            Is::SignedAtLeast => Is::SignedBelow,
            Is::SignedAbove => Is::SignedAtMost,
            Is::SignedAtMost => Is::SignedAbove,
        }
    }
}

/// A function of the kernel, by its number in linux/bpf.h.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum Helper {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    KtimeGetNs = 5,
    /// Writes into the packet.
    StoreBytes = 9,
    /// Sends a copy of the packet to an interface.
    CloneRedirect = 13,
    /// Reads from the packet.
    LoadBytes = 26,
}

/// A place that jumps lead to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label(usize);

/// A program that cannot be encoded: a bug of its author.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssemblyError {
    /// A jump leads to a label that was never placed.
    #[error("a jump leads nowhere")]
    LabelNotPlaced,
    /// A jump is too far for its 16 bits.
    #[error("a jump leads too far")]
    JumpTooFar,
}

// Classes, sizes and modes of opcodes.
const LOAD_CONSTANT: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const ATOMIC: u8 = 0xdb;
const WIDE: u8 = 0x18;
const JUMP: u8 = 0x05;
const ARITHMETIC: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const FETCH_ADD: i32 = 0x01;
const COMPARE_EXCHANGE: i32 = 0xf1;
/// In place of a source register: the constant names a map, and the address of its value is meant.
const MAP_VALUE: u8 = 2;

/// A program that grows.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    /// Where each label was placed.
    places: Vec<Option<usize>>,
    /// Instructions whose offset is still open.
    jumps: Vec<(usize, Label)>,
}

fn encoded(opcode: u8, destination: u8, source: u8, offset: i16, constant: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = constant.to_ne_bytes();
    // The two registers are bit fields, whose order follows the byte order.
    let registers = if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    };
    u64::from_ne_bytes([opcode, registers, low, high, a, b, c, d])
}

/// The low and the high half of a number, as constants.
fn halves(value: u64) -> (i32, i32) {
    let bytes = value.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    (
        i32::from_le_bytes([a, b, c, d]),
        i32::from_le_bytes([e, f, g, h]),
    )
}

macro_rules! arithmetic {
    ($($(#[$documentation:meta])* $name:ident = $opcode:literal;)*) => {
        $($(#[$documentation])*
        pub(super) fn $name(&mut self, destination: Register, operand: impl Into<Operand>) {
            self.operate($opcode, destination, operand.into());
        })*
    };
}

impl Assembler {
    fn push(&mut self, opcode: u8, destination: u8, source: u8, offset: i16, constant: i32) {
        self.code
            .push(encoded(opcode, destination, source, offset, constant));
    }

    fn operate(&mut self, operation: u8, destination: Register, operand: Operand) {
        let opcode = ARITHMETIC | operation;
        match operand {
            Operand::Register(source) => {
                self.push(
                    opcode | FROM_REGISTER,
                    destination as u8,
                    source as u8,
                    0,
                    0,
                );
            }
            Operand::Constant(constant) => self.push(opcode, destination as u8, 0, 0, constant),
        }
    }

    arithmetic! {
        add = 0x00;
        subtract = 0x10;
        multiply = 0x20;
        /// Unsigned; by zero it gives zero.
        divide = 0x30;
        or = 0x40;
        and = 0x50;
        shift_left = 0x60;
        shift_right = 0x70;
        exclusive_or = 0xa0;
        set = 0xb0;
        /// Keeps the sign.
        shift_right_signed = 0xc0;
    }

    /// Sets a register to a number of 64 bits.
    pub(super) fn set_wide(&mut self, destination: Register, value: u64) {
        let (low, high) = halves(value);
        self.push(LOAD_CONSTANT, destination as u8, 0, 0, low);
        self.push(0, 0, 0, 0, high);
    }

    /// Sets a register to an address within the only element of an array map.
    pub(super) fn set_address(&mut self, destination: Register, map: i32, offset: i32) {
        self.push(LOAD_CONSTANT, destination as u8, MAP_VALUE, 0, map);
        self.push(0, 0, 0, 0, offset);
    }

    /// Loads from `base + offset`.
    pub(super) fn load(
        &mut self,
        destination: Register,
        width: Width,
        base: Register,
        offset: i16,
    ) {
        let opcode = match width {
            Width::Word => LOAD,
            Width::Double => LOAD | WIDE,
        };
        self.push(opcode, destination as u8, base as u8, offset, 0);
    }

    /// Stores a register at `base + offset`.
    pub(super) fn store(&mut self, width: Width, base: Register, offset: i16, source: Register) {
        let opcode = match width {
            Width::Word => STORE,
            Width::Double => STORE | WIDE,
        };
        self.push(opcode, base as u8, source as u8, offset, 0);
    }

    /// Adds a register to the eight bytes at `base + offset` and sets it to what was there.
    pub(super) fn fetch_add(&mut self, base: Register, offset: i16, source: Register) {
        self.push(ATOMIC, base as u8, source as u8, offset, FETCH_ADD);
    }

    /// Stores a register in the eight bytes at `base + offset` if they equal `R0`; sets `R0` to
    /// what was there.
    pub(super) fn compare_exchange(&mut self, base: Register, offset: i16, source: Register) {
        self.push(ATOMIC, base as u8, source as u8, offset, COMPARE_EXCHANGE);
    }

    /// Calls a function of the kernel.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CALL, 0, 0, 0, helper as i32);
    }

    /// Ends the program with what `R0` says.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, 0, 0, 0, 0);
    }

    /// A label that is placed later.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The next instruction is where this label's jumps lead.
    pub(super) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    /// Jumps.
    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP, 0, 0, 0, 0);
    }

    /// Jumps if a comparison holds.
    pub(super) fn jump_if(
        &mut self,
        register: Register,
        is: Is,
        operand: impl Into<Operand>,
        label: Label,
    ) {
        self.jumps.push((self.code.len(), label));
        let opcode = JUMP | is.opcode();
        match operand.into() {
            Operand::Register(source) => {
                self.push(opcode | FROM_REGISTER, register as u8, source as u8, 0, 0);
            }
            Operand::Constant(constant) => self.push(opcode, register as u8, 0, 0, constant),
        }
    }

    /// What `block` adds runs only if a comparison holds.
    pub(super) fn when(
        &mut self,
        register: Register,
        is: Is,
        operand: impl Into<Operand>,
        block: impl FnOnce(&mut Assembler),
    ) {
        let after = self.label();
        self.jump_if(register, is.opposite(), operand, after);
        block(self);
        self.place(after);
    }

    /// The finished program.
    ///
    /// # Errors
    /// A jump cannot be encoded.
    pub(super) fn finish(mut self) -> Result<Vec<u64>, AssemblyError> {
        for (from, label) in self.jumps {
            let to = self.places.get(label.0).copied().flatten();
            let to = to.ok_or(AssemblyError::LabelNotPlaced)?;
            // Counted from the instruction after the jump.
            let distance = i64::try_from(to).ok().zip(i64::try_from(from + 1).ok());
            let distance = distance.and_then(|(to, after)| i16::try_from(to - after).ok());
            let [low, high] = distance.ok_or(AssemblyError::JumpTooFar)?.to_ne_bytes();
            if let Some(jump) = self.code.get_mut(from) {
                let [opcode, registers, _, _, a, b, c, d] = jump.to_ne_bytes();
                *jump = u64::from_ne_bytes([opcode, registers, low, high, a, b, c, d]);
            }
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R2, R3, R6, R10};
    use super::*;

    fn bytes(build: impl FnOnce(&mut Assembler)) -> Vec<[u8; 8]> {
        let mut program = Assembler::default();
        build(&mut program);
        let code = program.finish().unwrap();
        code.into_iter().map(u64::to_le_bytes).collect()
    }

    #[test]
    fn arithmetic_is_encoded_as_the_kernel_reads_it() {
        let found = bytes(|p| {
            p.set(R6, R1);
            p.set(R0, -1);
            p.add(R1, 14);
            p.subtract(R1, R2);
            p.multiply(R1, R2);
            p.divide(R1, R2);
            p.or(R1, R2);
            p.and(R1, 255);
            p.shift_left(R1, 3);
            p.shift_right(R1, R3);
            p.exclusive_or(R1, -1);
            p.shift_right_signed(R1, 63);
        });
        let expected = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x07, 0x01, 0, 0, 14, 0, 0, 0],
            [0x1f, 0x21, 0, 0, 0, 0, 0, 0],
            [0x2f, 0x21, 0, 0, 0, 0, 0, 0],
            [0x3f, 0x21, 0, 0, 0, 0, 0, 0],
            [0x4f, 0x21, 0, 0, 0, 0, 0, 0],
            [0x57, 0x01, 0, 0, 255, 0, 0, 0],
            [0x67, 0x01, 0, 0, 3, 0, 0, 0],
            [0x7f, 0x31, 0, 0, 0, 0, 0, 0],
            [0xa7, 0x01, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0xc7, 0x01, 0, 0, 63, 0, 0, 0],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn memory_atomics_calls_and_wide_constants_are_encoded_as_the_kernel_reads_them() {
        let found = bytes(|p| {
            p.load(R2, Width::Word, R6, 160);
            p.load(R2, Width::Double, R10, -8);
            p.store(Width::Word, R6, 44, R1);
            p.store(Width::Double, R10, -16, R1);
            p.fetch_add(R1, 8, R2);
            p.compare_exchange(R1, 0, R3);
            p.set_wide(R1, 0x1122_3344_5566_7788);
            p.set_address(R1, 7, 64);
            p.call(Helper::KtimeGetNs);
            p.exit();
        });
        let expected = [
            [0x61, 0x62, 160, 0, 0, 0, 0, 0],
            [0x79, 0xa2, 0xf8, 0xff, 0, 0, 0, 0],
            [0x63, 0x16, 44, 0, 0, 0, 0, 0],
            [0x7b, 0x1a, 0xf0, 0xff, 0, 0, 0, 0],
            [0xdb, 0x21, 8, 0, 0x01, 0, 0, 0],
            [0xdb, 0x31, 0, 0, 0xf1, 0, 0, 0],
            [0x18, 0x01, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11],
            [0x18, 0x21, 0, 0, 7, 0, 0, 0],
            [0, 0, 0, 0, 64, 0, 0, 0],
            [0x85, 0, 0, 0, 5, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn jumps_count_from_the_next_instruction_in_both_directions() {
        let found = bytes(|p| {
            let again = p.label();
            p.place(again);
            p.when(R1, Is::Above, 5, |p| p.set(R0, 1));
            p.jump_if(R1, Is::SignedBelow, R2, again);
            p.jump(again);
        });
        let expected = [
            [0xb5, 0x01, 1, 0, 5, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 1, 0, 0, 0],
            [0xcd, 0x21, 0xfd, 0xff, 0, 0, 0, 0],
            [0x05, 0x00, 0xfc, 0xff, 0, 0, 0, 0],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_jump_to_nowhere_is_found() {
        let mut program = Assembler::default();
        let label = program.label();
        program.jump(label);
        assert_eq!(program.finish(), Err(AssemblyError::LabelNotPlaced));
    }
}

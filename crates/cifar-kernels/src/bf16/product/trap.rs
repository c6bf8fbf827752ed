//! Executes the tile instructions of AMX on processors without them, for tests: the assembly runs
//! as it is, each tile instruction traps (SIGILL), and the handler executes it on tiles of its own.

use std::cell::UnsafeCell;
use std::sync::Once;

use super::portable::add_row;
use super::{Amx, TILE};
use crate::bf16::Bf16;

/// Bytes of a row of a tile, and of a tile.
const ROW: usize = 64;
const BYTES: usize = TILE * ROW;

/// The tiles of a thread, and whether they are configured.
struct State {
    configured: bool,
    tiles: [[u8; BYTES]; 8],
    instructions: usize,
}

thread_local! {
    static STATE: UnsafeCell<State> =
        const { UnsafeCell::new(State { configured: false, tiles: [[0; BYTES]; 8], instructions: 0 }) };
}

/// Returns AMX: that of the processor, or else an emulated one.
pub(in crate::bf16) fn amx() -> Amx {
    static HANDLER: Once = Once::new();
    if let Some(amx) = Amx::new().expect("AMX can be used if the processor has it") {
        return amx;
    }
    HANDLER.call_once(|| {
        // SAFETY: all bytes of the structure may be 0. The handler only accesses the trapped
        // instruction, its operands and this thread's tiles.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_trap as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()), 0, "a handler");
        }
    });
    Amx::emulated()
}

/// Returns how many instructions this thread has emulated, and whether its tiles are configured.
pub(in crate::bf16) fn emulated() -> (usize, bool) {
    // SAFETY: the handler changes the state only during a tile instruction, of which there are none
    // here.
    STATE.with(|state| unsafe { ((*state.get()).instructions, (*state.get()).configured) })
}

extern "C" fn on_trap(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes the registers of the interrupted thread, which executes a tile
    // instruction and thus does not access its state.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let instruction = Instruction::decode(registers);
        let length = STATE.with(|state| instruction.and_then(|found| found.execute(&mut *state.get())));
        match length {
            Some(length) => registers[libc::REG_RIP as usize] += length as i64,
            // Not a tile instruction, or one that also traps on AMX. It traps again and ends the
            // process.
            None => {
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// A decoded instruction of three VEX bytes, an opcode and its operands.
struct Instruction {
    /// The opcode after its mandatory prefix: 0 for none, 2 for F3, 3 for F2.
    operation: (u8, u8),
    /// The register operands: `reg`, `rm` and `vvvv`.
    tiles: [usize; 3],
    is_register: bool,
    /// The address and the stride of a memory operand.
    address: usize,
    stride: usize,
    length: usize,
}

impl Instruction {
    /// # Safety
    /// The instruction pointer is that of an instruction that the processor has read.
    unsafe fn decode(registers: &[i64; 23]) -> Option<Self> {
        let start = registers[libc::REG_RIP as usize] as *const u8;
        // SAFETY: the caller guarantees the first bytes. The others follow in the same instruction.
        let byte = |at: usize| unsafe { *start.add(at) };
        // Opcodes of the map 0F 38.
        if byte(0) != 0xc4 || byte(1) & 0x1f != 2 {
            return None;
        }
        let (inverted, vex, modrm) = (!byte(1) >> 5, byte(2), byte(4));
        let extended = |number: u8, bit: u8| usize::from(number & 7 | (inverted >> bit & 1) << 3);
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let mut decoded = Self {
            operation: (vex & 3, byte(3)),
            tiles: [extended(modrm >> 3, 2), extended(rm, 0), usize::from(!vex >> 3 & 15)],
            is_register: mode == 3,
            address: 0,
            stride: 0,
            length: 5,
        };
        if mode == 3 {
            return Some(decoded);
        }
        let value = |number: usize| registers[register(number)] as usize;
        if rm == 4 {
            let sib = byte(5);
            decoded.length += 1;
            let index = extended(sib >> 3, 1);
            decoded.stride = if index == 4 { 0 } else { value(index) << (sib >> 6) };
            if sib & 7 == 5 && mode == 0 {
                return None; // without a base register
            }
            decoded.address = value(extended(sib, 0));
        } else if rm == 5 && mode == 0 {
            return None; // relative to the instruction
        } else {
            decoded.address = value(extended(rm, 0));
        }
        let displacement = match mode {
            1 => i32::from(byte(decoded.length) as i8),
            2 => i32::from_le_bytes(std::array::from_fn(|at| byte(decoded.length + at))),
            _ => 0,
        };
        decoded.length += [0, 1, 4][usize::from(mode)];
        decoded.address = decoded.address.wrapping_add_signed(displacement as isize);
        Some(decoded)
    }

    /// Executes the instruction and returns its length, or `None` if it is none of AMX or invalid.
    ///
    /// # Safety
    /// The memory operand is valid for the instruction.
    unsafe fn execute(&self, state: &mut State) -> Option<usize> {
        let [first, second, third] = self.tiles;
        if !matches!(self.operation, (0, 0x49)) && (!state.configured || first > 7) {
            return None;
        }
        let row = |row: usize| self.address.wrapping_add(row * self.stride);
        // SAFETY: the caller guarantees the memory operand: 64 bytes of a configuration, or 16 rows
        // of 64 bytes.
        unsafe {
            match (self.operation, self.is_register) {
                // ldtilecfg
                ((0, 0x49), false) => {
                    let configuration = *(self.address as *const [u8; 64]);
                    let mut expected = [0; 64];
                    expected[0] = 1;
                    expected[16..32].copy_from_slice(&[64, 0].repeat(8));
                    expected[48..56].fill(16);
                    if configuration != expected {
                        return None;
                    }
                    (state.configured, state.tiles) = (true, [[0; BYTES]; 8]);
                }
                // tilerelease
                ((0, 0x49), true) => (state.configured, state.tiles) = (false, [[0; BYTES]; 8]),
                // tilezero
                ((3, 0x49), true) => state.tiles[first] = [0; BYTES],
                // tileloadd
                ((3, 0x4b), false) => {
                    for (at, to) in state.tiles[first].chunks_exact_mut(ROW).enumerate() {
                        to.copy_from_slice(&*(row(at) as *const [u8; ROW]));
                    }
                }
                // tilestored
                ((2, 0x4b), false) => {
                    for (at, from) in state.tiles[first].chunks_exact(ROW).enumerate() {
                        (*(row(at) as *mut [u8; ROW])).copy_from_slice(from);
                    }
                }
                // tdpbf16ps
                ((2, 0x5c), true) if first != second && first != third && second != third => {
                    multiply(&mut state.tiles, [first, second, third]);
                }
                _ => return None,
            }
        }
        state.instructions += 1;
        Some(self.length)
    }
}

/// Returns the place of a register in the system's list.
fn register(number: usize) -> usize {
    let places = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    places[number] as usize
}

/// Computes tdpbf16ps: C += A · B.
fn multiply(tiles: &mut [[u8; BYTES]; 8], [c, a, b]: [usize; 3]) {
    let operand = |tile: &[u8; BYTES]| -> [Bf16; BYTES / 2] {
        std::array::from_fn(|at| Bf16::from_bits(u16::from_le_bytes([tile[2 * at], tile[2 * at + 1]])))
    };
    let (a, b) = (operand(&tiles[a]), operand(&tiles[b]));
    for (row, c) in tiles[c].chunks_exact_mut(ROW).enumerate() {
        let mut sums: [f32; TILE] =
            std::array::from_fn(|at| f32::from_le_bytes(std::array::from_fn(|byte| c[4 * at + byte])));
        add_row(&a[row * 32..(row + 1) * 32], &b, &mut sums);
        for (bytes, sum) in c.chunks_exact_mut(4).zip(sums) {
            bytes.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

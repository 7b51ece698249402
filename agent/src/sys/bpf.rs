//! The bpf(2) system call: maps of one large element, programs of the traffic-control hook, and
//! running such a program on a made-up packet.
//!
//! The layouts are those of `union bpf_attr` in linux/bpf.h. The kernel takes a shorter union
//! than its own and reads the rest as zeros.

#[cfg(feature = "failpoints")]
mod listing;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[cfg(feature = "failpoints")]
pub use listing::{BpfKind, BpfObject, bpf_objects};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_long = 10;

const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_SCHED_CLS: u32 = 3;

/// The verifier's story of a program that it refuses, at most.
const LOG_BYTES: usize = 1 << 20;

/// How much of the end of that story goes into an error.
const LOG_SHOWN_BYTES: usize = 1000;

/// A program that the kernel did not take.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refuses BPF program {name}{verifier}")]
pub(crate) struct RefusedProgram {
    name: &'static str,
    /// The end of the verifier's log, with what introduces it; empty if it wrote nothing.
    verifier: String,
    #[source]
    source: io::Error,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    crate::failpoint::fallible("bpf")?;
    let pointer = std::ptr::from_mut(attributes);
    #[expect(unsafe_code, reason = "no library in use wraps bpf(2)")]
    // SAFETY: the attributes are alive and of the size that is passed, and every pointer in them
    // is to memory that the caller holds for the call and of the length that it says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn new_descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "taking ownership of a new descriptor")]
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned)
}

/// The address of a buffer, as the kernel takes it.
fn address<T>(buffer: &[T]) -> u64 {
    buffer.as_ptr().addr() as u64
}

fn address_mut<T>(buffer: &mut [T]) -> u64 {
    buffer.as_mut_ptr().expose_provenance() as u64
}

fn length<T>(buffer: &[T]) -> io::Result<u32> {
    u32::try_from(buffer.len()).map_err(io::Error::other)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX)
}

/// The kernel keeps 15 bytes of a name.
fn name_field(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    for (to, from) in field.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    field
}

/// Memory that programs and we share: an array map with one element, all zeros.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    descriptor: OwnedFd,
    bytes: usize,
}

impl SharedMemory {
    /// Makes one.
    ///
    /// # Errors
    /// Not allowed, or too large for this kernel.
    pub(crate) fn create(name: &str, bytes: usize) -> io::Result<SharedMemory> {
        let mut attributes = MapCreate {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: u32::try_from(bytes).map_err(io::Error::other)?,
            max_entries: 1,
            map_name: name_field(name),
            ..MapCreate::default()
        };
        let result = bpf(MAP_CREATE, &mut attributes)?;
        let descriptor = new_descriptor(result)?;
        Ok(SharedMemory { descriptor, bytes })
    }

    /// How a program's instructions name it.
    pub(crate) fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Writes all of it. A program that runs meanwhile may see a part.
    ///
    /// # Errors
    /// `content` has another size.
    pub(crate) fn write(&self, content: &[u8]) -> io::Result<()> {
        self.expect_size(content)?;
        let key = [0_u32];
        let mut attributes = MapElement {
            map_fd: number(self.descriptor()),
            key: address(&key),
            value: address(content),
            ..MapElement::default()
        };
        bpf(MAP_UPDATE_ELEM, &mut attributes).map(|_| ())
    }

    /// Reads all of it into a buffer of its size.
    ///
    /// # Errors
    /// The buffer has another size.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.expect_size(buffer)?;
        let key = [0_u32];
        let mut attributes = MapElement {
            map_fd: number(self.descriptor()),
            key: address(&key),
            value: address_mut(buffer),
            ..MapElement::default()
        };
        bpf(MAP_LOOKUP_ELEM, &mut attributes).map(|_| ())
    }

    fn expect_size(&self, buffer: &[u8]) -> io::Result<()> {
        if buffer.len() == self.bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.descriptor)
    }
}

/// A program of the traffic-control hook, loaded.
#[derive(Debug)]
pub(crate) struct Program {
    descriptor: OwnedFd,
}

impl Program {
    /// Has the kernel check instructions and take them. The maps that they name must be open.
    ///
    /// # Errors
    /// Not allowed, or the verifier does not like them; the error has the end of its log.
    pub(crate) fn load(
        name: &'static str,
        instructions: &[u64],
    ) -> Result<Program, RefusedProgram> {
        let refused = |source, verifier| RefusedProgram {
            name,
            verifier,
            source,
        };
        // Only a second attempt asks for the log: it costs a megabyte.
        let error = match load(name, instructions, &mut []).and_then(new_descriptor) {
            Ok(descriptor) => return Ok(Program { descriptor }),
            Err(error) => error,
        };
        let mut log = vec![0; LOG_BYTES];
        match load(name, instructions, &mut log).and_then(new_descriptor) {
            // What was in the way is over: a signal, or too little memory for a moment.
            Ok(descriptor) => Ok(Program { descriptor }),
            // It is refused once more, this time with the reasons.
            Err(_) => Err(refused(error, end_of_log(&log))),
        }
    }

    /// The descriptor, as a traffic-control filter takes it.
    pub(crate) fn number(&self) -> u32 {
        number(std::os::fd::AsFd::as_fd(&self.descriptor))
    }
}

fn load(name: &str, instructions: &[u64], log: &mut [u8]) -> io::Result<libc::c_long> {
    let license = CString::from(c"MIT");
    let mut attributes = ProgramLoad {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: length(instructions)?,
        insns: address(instructions),
        license: address(license.as_bytes_with_nul()),
        log_level: u32::from(!log.is_empty()),
        log_size: length(log)?,
        log_buf: if log.is_empty() { 0 } else { address_mut(log) },
        prog_name: name_field(name),
        ..ProgramLoad::default()
    };
    bpf(PROG_LOAD, &mut attributes)
}

/// The end of a log, for an error message; empty if there is none.
fn end_of_log(log: &[u8]) -> String {
    let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let mut start = text.len().saturating_sub(LOG_SHOWN_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!(
        "; its verifier says: {}",
        text[start..].replace('\n', " | ")
    )
}

/// What a program made of a packet.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) verdict: u32,
    /// The packet afterwards.
    pub(crate) packet: Vec<u8>,
    /// `struct __sk_buff` afterwards.
    pub(crate) context: Vec<u8>,
    /// Mean time of one run.
    pub(crate) duration_ns: u32,
}

#[cfg(test)]
impl Program {
    /// Runs the program on a packet, `repeat` times, with a `struct __sk_buff` beside it.
    pub(crate) fn run(&self, packet: &[u8], context: &[u8], repeat: u32) -> io::Result<Ran> {
        let mut after = vec![0; context.len()];
        let mut packet_after = vec![0; packet.len()];
        let mut attributes = TestRun {
            prog_fd: self.number(),
            data_size_in: length(packet)?,
            data_in: address(packet),
            data_size_out: length(&packet_after)?,
            data_out: address_mut(&mut packet_after),
            repeat,
            ctx_size_in: length(context)?,
            ctx_size_out: length(&after)?,
            ctx_in: address(context),
            ctx_out: address_mut(&mut after),
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        Ok(Ran {
            verdict: attributes.retval,
            packet: packet_after,
            context: after,
            duration_ns: attributes.duration_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_one_line() {
        assert_eq!(end_of_log(&[0; 8]), "");
        assert_eq!(
            end_of_log(b"0: r1 = 7\nR0 !read_ok\n\0\0"),
            "; its verifier says: 0: r1 = 7 | R0 !read_ok"
        );
    }

    #[test]
    fn the_attributes_are_as_long_as_the_kernel_reads_them() {
        assert_eq!(size_of::<MapCreate>(), 44);
        assert_eq!(size_of::<MapElement>(), 32);
        assert_eq!(size_of::<ProgramLoad>(), 64);
        assert_eq!(size_of::<TestRun>(), 64);
    }
}

//! The one wrapper around AMX: detection, permission, configuration, and the products of 32 rows with 32 lanes in int8 and
//! in parts of bfloat16.
//!
//! Stable Rust has no AMX intrinsics yet, so the instructions are inline assembly. Tile registers belong to nobody across a
//! call: each kernel configures them when it starts and releases them when it ends, on whatever thread it runs.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::ops::Range;

use crate::aligned::Plain;
use crate::lanes::LANES;

/// Bytes of one group of four dimensions, and of a row of sums.
const LINE: usize = 4 * LANES;

/// Rows that one product takes.
pub(crate) const ROWS: usize = 32;

/// Parts of bfloat16 that make one f32.
pub(crate) const PARTS: usize = 3;

/// Values of one part of 32 rows, or of 32 lanes, over 32 dimensions: two tiles.
pub(crate) const PART: usize = 32 * 32;

const OSXSAVE: u32 = 1 << 27;
const BF16_TILE_AND_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
const TILE_STATE: u64 = 1 << 17 | 1 << 18;
const ARCH_PRCTL: i64 = 158;
const REQUEST_PERMISSION: i64 = 0x1023;
const TILE_DATA: i64 = 18;

/// Whether CPU and operating system have AMX int8 and bf16, and Linux has granted this process its registers.
pub(crate) fn permitted() -> bool {
    if __cpuid(0).eax < 7
        || __cpuid(1).ecx & OSXSAVE == 0
        || __cpuid_count(7, 0).edx & BF16_TILE_AND_INT8 != BF16_TILE_AND_INT8
    {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction exists; register 0 always does.
    if unsafe { enabled_state() } & TILE_STATE != TILE_STATE {
        return false;
    }
    let result: i64;
    // SAFETY: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA) touches no memory of this process; it may fail, which we heed.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[target_feature(enable = "xsave")]
fn enabled_state() -> u64 {
    // SAFETY: the caller has seen OSXSAVE.
    unsafe { _xgetbv(0) }
}

/// The tile registers of this thread, configured as eight tiles of 16 rows × 64 bytes, and released on drop.
pub(crate) struct Session(PhantomData<*mut ()>);

#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Session {
    /// Configures the tiles of this thread.
    ///
    /// # Safety
    /// [`permitted`] has returned true in this process.
    pub(crate) unsafe fn start() -> Self {
        let used = |value| std::array::from_fn(|tile| if tile < 8 { value } else { 0 });
        let rows: [u16; 16] = used(16);
        let configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: used(64),
            rows: rows.map(|rows| rows as u8),
        };
        // SAFETY: 64 readable bytes in the layout of palette 1; the caller vouches for AMX.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Self(PhantomData)
    }

    /// Begins `sums[row][lane] = Σ_d rows[row][d] · lanes[d / 4][lane][d % 4]` over `stride` dimensions, and writes the
    /// sums of the product before this one to `last`; zeros at first.
    ///
    /// `rows` are 32 rows of int8, `stride` bytes apart, of which only the first 16 count if `half`; `lanes` is one block of
    /// `QueryLanes`. Sums stay in the tiles until the next product, because to store them at once would hold the unit up
    /// until the last of them is there.
    ///
    /// Two tiles of 16 rows by two of 16 lanes: four loads for four products. `meanwhile` is called with
    /// the numbers 0 to 3, one or two at a time, between the products: each takes 16 cycles of a unit of its own, in
    /// which the vector units are free, and more than a quarter of the work would not fit into the reorder buffer.
    #[expect(clippy::unused_self, reason = "the session is the proof that tiles are configured")]
    #[expect(clippy::inline_always, reason = "`meanwhile` must become part of the loop")]
    #[inline(always)]
    pub(crate) fn multiply(
        &self,
        rows: &[u8],
        stride: usize,
        lanes: &[i8],
        half: bool,
        last: &mut [i32],
        mut meanwhile: impl FnMut(Range<usize>),
    ) {
        let steps = stride / 64;
        assert!(steps > 0 && stride.is_multiple_of(64) && rows.len() >= ROWS * stride);
        assert!(lanes.len() >= steps * 64 * LANES && last.len() >= ROWS * LANES);
        // A tile keeps its value from one block of assembly to the next: compiled code that is not built for AMX never
        // touches tiles, and the session that is borrowed here has configured them.
        let share = if steps == 1 { 2 } else { 1 };
        for part in 0..2 * steps {
            let (step, high) = (part / 2, part % 2 == 1);
            // SAFETY: step < steps, so by the assertions tiles of 16 rows of 64 bytes at strides `stride` and 128 lie in
            // the slices, and 32 rows of 128 bytes in `last`.
            unsafe {
                let rows = rows.as_ptr().add(step * 64 + if high { 16 * stride } else { 0 });
                let lanes = lanes.as_ptr().add(step * 64 * LANES);
                match (step, high) {
                    (0, false) => asm!(
                        "tileloadd tmm4, [{rows} + {stride}*1]",
                        "tileloadd tmm6, [{lanes} + {line}*1]",
                        "tileloadd tmm7, [{lanes} + {line}*1 + 64]",
                        "tilestored [{last} + {line}*1], tmm0",
                        "tilezero tmm0",
                        "tdpbssd tmm0, tmm4, tmm6",
                        "tilestored [{last} + {line}*1 + 64], tmm1",
                        "tilezero tmm1",
                        "tdpbssd tmm1, tmm4, tmm7",
                        rows = in(reg) rows,
                        lanes = in(reg) lanes,
                        last = in(reg) last.as_mut_ptr(),
                        stride = in(reg) stride,
                        line = in(reg) LINE,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, preserves_flags),
                    ),
                    (0, true) if half => asm!(
                        "tilestored [{last} + {line}*1 + 2048], tmm2",
                        "tilestored [{last} + {line}*1 + 2112], tmm3",
                        last = in(reg) last.as_mut_ptr(),
                        line = in(reg) LINE,
                        options(nostack, preserves_flags),
                    ),
                    (_, true) if half => {}
                    (0, true) => asm!(
                        "tileloadd tmm5, [{rows} + {stride}*1]",
                        "tilestored [{last} + {line}*1 + 2048], tmm2",
                        "tilezero tmm2",
                        "tdpbssd tmm2, tmm5, tmm6",
                        "tilestored [{last} + {line}*1 + 2112], tmm3",
                        "tilezero tmm3",
                        "tdpbssd tmm3, tmm5, tmm7",
                        rows = in(reg) rows,
                        last = in(reg) last.as_mut_ptr(),
                        stride = in(reg) stride,
                        line = in(reg) LINE,
                        out("tmm2") _, out("tmm3") _, out("tmm5") _,
                        options(nostack, preserves_flags),
                    ),
                    (_, false) => asm!(
                        "tileloadd tmm4, [{rows} + {stride}*1]",
                        "tileloadd tmm6, [{lanes} + {line}*1]",
                        "tileloadd tmm7, [{lanes} + {line}*1 + 64]",
                        "tdpbssd tmm0, tmm4, tmm6",
                        "tdpbssd tmm1, tmm4, tmm7",
                        rows = in(reg) rows,
                        lanes = in(reg) lanes,
                        stride = in(reg) stride,
                        line = in(reg) LINE,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly, preserves_flags),
                    ),
                    (_, true) => asm!(
                        "tileloadd tmm5, [{rows} + {stride}*1]",
                        "tdpbssd tmm2, tmm5, tmm6",
                        "tdpbssd tmm3, tmm5, tmm7",
                        rows = in(reg) rows,
                        stride = in(reg) stride,
                        out("tmm2") _, out("tmm3") _, out("tmm5") _,
                        options(nostack, readonly, preserves_flags),
                    ),
                }
            }
            if part < 4 / share {
                meanwhile(part * share..(part + 1) * share);
            }
        }
    }

    /// Adds `Σ_d rows[i][row][d] · lanes[j][half][d / 2][lane][d % 2]` over 32 dimensions in bfloat16 to the sums, for all
    /// parts i and j that count: i + j < [`PARTS`], i < `row_parts`, j < `lane_parts`. With `last` it begins a product: the
    /// sums of the one before are written there, and the sums begin at zero.
    ///
    /// Only the first 16 rows count if `half`. `meanwhile` is called after each of the [`products`], with its number.
    #[expect(clippy::inline_always, reason = "`meanwhile` must become part of the loop")]
    #[inline(always)]
    pub(crate) fn add_parts(
        &self,
        (rows, row_parts): (&[u16], usize),
        (lanes, lane_parts): (&[u16], usize),
        last: Option<&mut [f32]>,
        half: bool,
        mut meanwhile: impl FnMut(usize),
    ) {
        assert!(rows.len() >= PARTS * PART && lanes.len() >= PARTS * PART);
        assert!(row_parts <= PARTS && lane_parts <= PARTS);
        if let Some(last) = last {
            self.store(last);
            // SAFETY: tiles are configured.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nostack, nomem, preserves_flags),
                );
            }
        }
        let mut done = 0;
        for j in 0..lane_parts {
            // SAFETY: j < PARTS, so two tiles of 16 rows of 64 bytes lie in the slice by the assertions.
            unsafe {
                asm!(
                    "tileloadd tmm6, [{lanes} + {line}*1]",
                    "tileloadd tmm7, [{lanes} + {line}*1 + 1024]",
                    lanes = in(reg) lanes.as_ptr().add(j * PART),
                    line = in(reg) 64_usize,
                    out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
            for i in 0..row_parts.min(PARTS - j) {
                // SAFETY: i < PARTS, so two tiles of 16 rows of 64 bytes lie in the slice by the assertions.
                unsafe {
                    asm!(
                        "tileloadd tmm4, [{rows} + {line}*1]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        rows = in(reg) rows.as_ptr().add(i * PART),
                        line = in(reg) 64_usize,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _,
                        options(nostack, readonly, preserves_flags),
                    );
                    if !half {
                        asm!(
                            "tileloadd tmm5, [{rows} + {line}*1 + 1024]",
                            "tdpbf16ps tmm2, tmm5, tmm6",
                            "tdpbf16ps tmm3, tmm5, tmm7",
                            rows = in(reg) rows.as_ptr().add(i * PART),
                            line = in(reg) 64_usize,
                            out("tmm2") _, out("tmm3") _, out("tmm5") _,
                            options(nostack, readonly, preserves_flags),
                        );
                    }
                }
                meanwhile(done);
                done += 1;
            }
        }
    }

    /// The sums of the last product, i32 or f32.
    #[expect(clippy::unused_self, reason = "the session is the proof that tiles are configured")]
    pub(crate) fn store<T: Plain>(&self, last: &mut [T]) {
        assert!(size_of_val(last) >= ROWS * LINE);
        // SAFETY: 32 rows of 128 bytes lie in `last` by the assertion.
        unsafe {
            asm!(
                "tilestored [{last} + {line}*1], tmm0",
                "tilestored [{last} + {line}*1 + 64], tmm1",
                "tilestored [{last} + {line}*1 + 2048], tmm2",
                "tilestored [{last} + {line}*1 + 2112], tmm3",
                last = in(reg) last.as_mut_ptr(),
                line = in(reg) LINE,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Products of parts that count: i + j < [`PARTS`], i < `row_parts`, j < `lane_parts`.
pub(crate) fn products(row_parts: usize, lane_parts: usize) -> usize {
    (0..lane_parts).map(|j| row_parts.min(PARTS - j)).sum()
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: a session exists, so the instruction does; no tile holds anything that is still wanted.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

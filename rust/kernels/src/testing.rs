//! What the tests share: random numbers, and buffers that end where the page after them cannot be read.

/// A small random generator (xorshift64*), the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    /// Uniform in -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() & 0xFF_FFFF) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn floats(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.float()).collect()
    }
}

/// A copy of a slice that ends at an unmapped page: reading one element too far crashes the test.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
pub(crate) struct Guarded<T> {
    mapping: *mut std::ffi::c_void,
    size: usize,
    start: *mut T,
    length: usize,
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
mod system {
    use std::ffi::{c_int, c_long, c_void};

    /// The largest page that Linux uses on these machines.
    pub(super) const PAGE: usize = 1 << 16;

    unsafe extern "C" {
        pub(super) fn mmap(
            at: *mut c_void,
            size: usize,
            protection: c_int,
            flags: c_int,
            file: c_int,
            offset: c_long,
        ) -> *mut c_void;
        pub(super) fn mprotect(at: *mut c_void, size: usize, protection: c_int) -> c_int;
        pub(super) fn munmap(at: *mut c_void, size: usize) -> c_int;
    }
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
impl<T: Copy> Guarded<T> {
    pub(crate) fn new(values: &[T]) -> Self {
        let bytes = size_of_val(values);
        let body = bytes.next_multiple_of(system::PAGE);
        let size = body + system::PAGE;
        // SAFETY: a private anonymous mapping (read | write, MAP_PRIVATE | MAP_ANONYMOUS) of which the last page is then
        // closed; the copy ends where that page starts.
        unsafe {
            let mapping = system::mmap(std::ptr::null_mut(), size, 3, 0x22, -1, 0);
            assert!(mapping.addr() != usize::MAX, "mmap failed");
            assert_eq!(system::mprotect(mapping.byte_add(body), system::PAGE, 0), 0, "mprotect failed");
            let start = mapping.byte_add(body - bytes).cast::<T>();
            start.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Self { mapping, size, start, length: values.len() }
        }
    }
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
impl<T> std::ops::Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `length` initialised values.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
impl<T> std::ops::DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri)))]
impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` and nothing refers to it any more.
        unsafe { system::munmap(self.mapping, self.size) };
    }
}

/// Where pages cannot be guarded, a plain copy.
#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri))))]
pub(crate) struct Guarded<T>(Vec<T>);

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri))))]
impl<T: Copy> Guarded<T> {
    pub(crate) fn new(values: &[T]) -> Self {
        Self(values.to_vec())
    }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri))))]
impl<T> std::ops::Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri))))]
impl<T> std::ops::DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

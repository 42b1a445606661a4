//! Which instructions this CPU runs, asked once.

use std::fmt;
use std::sync::LazyLock;

/// The environment variable that forces a level.
const VARIABLE: &str = "LATEWOOD_SIMD";

/// A set of instructions that this CPU is known to run.
///
/// Values come only from detection, so that holding one is the proof that its kernels may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub(crate) Isa);

/// The levels of each architecture in order: each may run the kernels of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Isa {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

/// Every name that [`Level::name`] can give on any machine, those of an architecture lowest first.
const NAMES: [&str; 7] = ["scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "i8mm"];

impl Level {
    /// Every level this CPU can run, lowest first. Tests and benches loop over it.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        static AVAILABLE: LazyLock<Vec<Level>> = LazyLock::new(detect);
        AVAILABLE.iter().copied()
    }

    /// The level to use: the one that `LATEWOOD_SIMD` names, or the best. Decided once per process.
    ///
    /// # Panics
    /// If the variable names a level that is not available: another in its place would measure and test what was not
    /// meant. [`Level::requested`] says so without a panic.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: LazyLock<Level> = LazyLock::new(|| match Level::requested() {
            Ok(level) => level.unwrap_or_else(best),
            Err(unavailable) => panic!("{unavailable}"),
        });
        *CURRENT
    }

    /// The level that `LATEWOOD_SIMD` names, or `None` where the variable is unset or empty.
    ///
    /// # Errors
    /// [`LevelUnavailable`] if the name is unknown or this CPU lacks that level.
    pub fn requested() -> Result<Option<Self>, LevelUnavailable> {
        match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => Self::named(&name.to_string_lossy()).map(Some),
            _ => Ok(None),
        }
    }

    /// The available level of that name, upper or lower case.
    ///
    /// # Errors
    /// [`LevelUnavailable`] if the name is unknown or this CPU lacks that level.
    pub fn named(name: &str) -> Result<Self, LevelUnavailable> {
        let found = Self::available().find(|level| level.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| LevelUnavailable { name: name.to_owned() })
    }

    /// `scalar`; `avx2`, `avxvnni`, `avx512vnni` or `amx` on x86-64; `neon` or `i8mm` on aarch64.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self.rank()]
    }

    fn rank(self) -> usize {
        match self.0 {
            Isa::Scalar => 0,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 1,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => 2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => 3,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => 4,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 5,
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => 6,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// `LATEWOOD_SIMD` names a level that this CPU lacks, or none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelUnavailable {
    /// The name that was asked for.
    pub name: String,
}

impl fmt::Display for LevelUnavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available: Vec<_> = Level::available().map(Level::name).collect();
        write!(
            formatter,
            "{VARIABLE}={} is not available on this machine; choose one of {}, or unset the variable for the best of them",
            self.name,
            available.join(", ")
        )
    }
}

impl std::error::Error for LevelUnavailable {}

fn best() -> Level {
    Level::available().next_back().unwrap_or(Level(Isa::Scalar))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Vec<Level> {
    vec![Level(Isa::Scalar)]
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Vec<Level> {
    use std::arch::is_aarch64_feature_detected;
    let neon = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
    [(true, Isa::Scalar), (neon, Isa::Neon), (neon && is_aarch64_feature_detected!("i8mm"), Isa::I8mm)]
        .into_iter()
        .filter_map(|(runs, isa)| runs.then_some(Level(isa)))
        .collect()
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Vec<Level> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    [
        (true, Isa::Scalar),
        (avx2, Isa::Avx2),
        (avx2 && is_x86_feature_detected!("avxvnni"), Isa::AvxVnni),
        (avx512, Isa::Avx512Vnni),
        #[cfg(target_os = "linux")]
        (
            avx512
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512bf16")
                && crate::tiles::permitted(),
            Isa::Amx,
        ),
    ]
    .into_iter()
    .filter_map(|(runs, isa)| runs.then_some(Level(isa)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_the_order_is_that_of_the_names() {
        let names: Vec<_> = Level::available().map(Level::name).collect();
        assert_eq!(names[0], "scalar");
        let ranks: Vec<_> = names.iter().map(|name| NAMES.iter().position(|known| known == name)).collect();
        assert!(ranks.is_sorted());
    }

    #[test]
    fn a_name_finds_its_level_and_an_unknown_one_none() {
        for level in Level::available() {
            assert_eq!(Level::named(&level.name().to_uppercase()), Ok(level));
        }
        let lacking = NAMES.into_iter().find(|name| Level::available().all(|level| level.name() != *name));
        for name in ["sse9", "best", " scalar", "scalar,avx2"].into_iter().chain(lacking) {
            let unavailable = Level::named(name).expect_err("no such level");
            assert!(unavailable.to_string().contains(&format!("{VARIABLE}={name} is not available")));
            assert!(unavailable.to_string().contains("choose one of scalar"));
        }
    }
}

//! Selects the instruction set (ISA) of the kernels: detected at run time, or forced.
//!
//! The environment variable [`ISA_VARIABLE`] forces an ISA for the process, as [`force_isa`] does.
//! [`with_isa`] forces one for the calls of a closure. If the processor lacks a forced ISA, every
//! kernel returns an error; no other ISA is used instead.

use std::cell::Cell;
use std::env::VarError;
use std::sync::OnceLock;

use crate::error::{KernelError, Result};

/// An instruction set that every kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL: vectors of 16 values.
    Avx512,
    /// x86-64 with AVX2 and FMA: vectors of 8 values.
    Avx2,
    /// Any processor: vectors of 4 values. The bits are the same on all processors of one target.
    Portable,
}

/// The environment variable that forces an ISA for the process: `avx512`, `avx2` or `portable`.
pub const ISA_VARIABLE: &str = "CIFAR_ISA";

/// The former name of [`ISA_VARIABLE`]. Deprecated, but it still works; see [`isa_variable`].
pub const DEPRECATED_ISA_VARIABLE: &str = "CIFAR_KERNELS_ARM";

thread_local! {
    static SCOPED: Cell<Option<Isa>> = const { Cell::new(None) };
}

static PROCESS: OnceLock<std::result::Result<Isa, String>> = OnceLock::new();

impl Isa {
    /// All ISAs, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Returns the name that [`ISA_VARIABLE`] and reports use, such as `avx2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Returns whether this processor supports the ISA.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// Returns the ISAs that this processor supports, fastest first.
    ///
    /// ```
    /// use cifar_kernels::Isa;
    ///
    /// assert_eq!(Isa::available().last(), Some(&Isa::Portable)); // every processor supports it
    /// ```
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn checked(self) -> std::result::Result<Self, String> {
        if self.is_available() { Ok(self) } else { Err(format!("this processor does not support {}", self.name())) }
    }
}

impl std::str::FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| format!("found {name:?}, allowed is one of {}", names()))
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the value of an environment variable if it is set.
fn read(variable: &'static str) -> std::result::Result<Option<String>, String> {
    match std::env::var(variable) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(problem @ VarError::NotUnicode(_)) => Err(format!("{variable}: {problem}")),
    }
}

/// Returns the environment variable that is set, and its value.
fn variable() -> std::result::Result<Option<(&'static str, String)>, String> {
    match (read(ISA_VARIABLE)?, read(DEPRECATED_ISA_VARIABLE)?) {
        (None, None) => Ok(None),
        (None, Some(old)) => Ok(Some((DEPRECATED_ISA_VARIABLE, old))),
        (Some(new), Some(old)) if new != old => Err(format!(
            "{ISA_VARIABLE} is {new:?} but its former name {DEPRECATED_ISA_VARIABLE} is {old:?}; set only {ISA_VARIABLE}"
        )),
        (Some(new), _) => Ok(Some((ISA_VARIABLE, new))),
    }
}

/// Returns the environment variable that forces an ISA, or `None` if none is set.
///
/// The result is [`DEPRECATED_ISA_VARIABLE`] if only the former name is set, so that a program can
/// print a warning. The value of the variable is not checked.
///
/// # Errors
/// If both variables are set to different values, or one is not valid UTF-8.
///
/// ```
/// if cifar_kernels::isa_variable()? == Some(cifar_kernels::DEPRECATED_ISA_VARIABLE) {
///     eprintln!("warning: rename the environment variable to {}", cifar_kernels::ISA_VARIABLE);
/// }
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn isa_variable() -> Result<Option<&'static str>> {
    variable().map(|found| found.map(|(name, _)| name)).map_err(|problem| KernelError::Isa { problem })
}

/// Returns the ISA that the environment forces, or else the fastest.
fn detect() -> std::result::Result<Isa, String> {
    match variable()? {
        Some((variable, name)) => {
            name.parse().and_then(Isa::checked).map_err(|problem| format!("{variable}: {problem}"))
        }
        None => Ok(Isa::available()[0]),
    }
}

/// Returns the ISA that kernels use when this thread calls them.
///
/// # Errors
/// If the environment forces an ISA that does not exist or that this processor does not support.
pub fn isa() -> Result<Isa> {
    if let Some(isa) = SCOPED.get() {
        return Ok(isa);
    }
    PROCESS.get_or_init(detect).clone().map_err(|problem| KernelError::Isa { problem })
}

/// Makes the whole process use `isa`, whatever the environment says. Call it before any kernel.
///
/// # Errors
/// If this processor does not support `isa`, or if kernels have already used another ISA.
pub fn force_isa(isa: Isa) -> Result<()> {
    let wrong = |problem| KernelError::Isa { problem };
    let chosen = isa.checked().map_err(wrong)?;
    match PROCESS.get_or_init(|| Ok(chosen)) {
        Ok(used) if *used == chosen => Ok(()),
        Ok(used) => Err(wrong(format!("cannot change the ISA to {chosen}: kernels have already used {used}"))),
        Err(problem) => Err(wrong(problem.clone())),
    }
}

/// Runs `work` with all kernels that it calls on this thread using `isa`.
///
/// # Errors
/// If this processor does not support `isa`. `work` does not run then.
///
/// ```
/// use cifar_kernels::{Isa, isa, with_isa};
///
/// assert_eq!(with_isa(Isa::Portable, isa)?, Ok(Isa::Portable));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn with_isa<R>(isa: Isa, work: impl FnOnce() -> R) -> Result<R> {
    let isa = isa.checked().map_err(|problem| KernelError::Isa { problem })?;
    Ok(scoped(Some(isa), work))
}

/// Runs `work` on a thread of rayon's pool, with the ISA that this thread uses.
///
/// A parallel loop that starts on the pool costs less than one that first has to wake it. Use this
/// around work that calls many kernels, such as a training step.
///
/// ```
/// use cifar_kernels::{Isa, isa, on_pool, with_isa};
///
/// assert_eq!(with_isa(Isa::Portable, || on_pool(isa))?, Ok(Isa::Portable));
/// # Ok::<(), cifar_kernels::KernelError>(())
/// ```
pub fn on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let isa = SCOPED.get();
    rayon::scope(|_| scoped(isa, work))
}

fn scoped<R>(isa: Option<Isa>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPED.set(self.0);
        }
    }
    let _restore = Restore(SCOPED.replace(isa));
    work()
}

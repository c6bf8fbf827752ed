//! Which vector instructions the kernels use: found out at run time, or forced.
//!
//! The environment variable `CIFAR_KERNELS_ARM` (`avx512`, `avx2` or `portable`) forces an arm for the process, as
//! [`force_arm`] does; [`with_arm`] for the calls of a closure. Forcing one that this processor lacks is an error of
//! every kernel, never a silent change to another.

use std::cell::Cell;
use std::sync::OnceLock;

use crate::error::{KernelError, Result};

/// A set of instructions that every kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// x86-64 with AVX-512 F, BW, DQ and VL: vectors of 16 values.
    Avx512,
    /// x86-64 with AVX2 and FMA: vectors of 8 values.
    Avx2,
    /// Any processor; the same bits on all of one target.
    Portable,
}

/// The environment variable that forces an arm.
pub const ARM_VARIABLE: &str = "CIFAR_KERNELS_ARM";

thread_local! {
    static SCOPED: Cell<Option<Arm>> = const { Cell::new(None) };
}

static PROCESS: OnceLock<std::result::Result<Arm, String>> = OnceLock::new();

impl Arm {
    /// All arms, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Its name in [`ARM_VARIABLE`], in `--arm` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor has its instructions.
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

    /// The arms that this processor has, the fastest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|arm| arm.is_available()).collect()
    }

    fn checked(self) -> std::result::Result<Self, String> {
        if self.is_available() { Ok(self) } else { Err(format!("this processor has no {}", self.name())) }
    }
}

impl std::str::FromStr for Arm {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|arm| arm.name() == name)
            .ok_or_else(|| format!("found {name:?}, allowed is one of {}", names()))
    }
}

impl std::fmt::Display for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the environment asks for, or else the fastest.
fn detect() -> std::result::Result<Arm, String> {
    match std::env::var(ARM_VARIABLE) {
        Ok(name) => name.parse().and_then(Arm::checked).map_err(|problem| format!("{ARM_VARIABLE}: {problem}")),
        Err(std::env::VarError::NotPresent) => Ok(Arm::available()[0]),
        Err(problem) => Err(format!("{ARM_VARIABLE}: {problem}")),
    }
}

/// The arm that kernels called from here use.
///
/// # Errors
/// If the environment names one that does not exist or that this processor lacks.
pub fn arm() -> Result<Arm> {
    if let Some(arm) = SCOPED.get() {
        return Ok(arm);
    }
    PROCESS.get_or_init(detect).clone().map_err(|problem| KernelError::Arm { problem })
}

/// Makes the whole process use `arm`, whatever the environment says. To be called before the first kernel.
///
/// # Errors
/// If this processor lacks it, or if the process uses another one already.
pub fn force_arm(arm: Arm) -> Result<()> {
    let wrong = |problem| KernelError::Arm { problem };
    let chosen = arm.checked().map_err(wrong)?;
    match PROCESS.get_or_init(|| Ok(chosen)) {
        Ok(used) if *used == chosen => Ok(()),
        Ok(used) => Err(wrong(format!("cannot change to {chosen}: kernels have used {used} already"))),
        Err(problem) => Err(wrong(problem.clone())),
    }
}

/// Runs `work`; the kernels that it calls on this thread use `arm`.
///
/// # Errors
/// If this processor lacks it.
pub fn with_arm<R>(arm: Arm, work: impl FnOnce() -> R) -> Result<R> {
    struct Restore(Option<Arm>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SCOPED.set(self.0);
        }
    }
    let arm = arm.checked().map_err(|problem| KernelError::Arm { problem })?;
    let _restore = Restore(SCOPED.replace(Some(arm)));
    Ok(work())
}

//! One file per stage. Each function runs its stage without the project's lock; the methods of
//! [`crate::Project`] take the lock.

pub mod check;
pub mod clean;
pub mod evaluate;
pub mod export;
pub mod hard_images;
pub mod inspect;
pub mod labels;
pub mod partition;
pub mod prepare;
pub mod pull;
pub mod recipe;
pub mod study;
pub mod train;
pub mod truth;
pub mod tune;

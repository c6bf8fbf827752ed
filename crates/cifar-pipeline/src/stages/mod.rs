//! One file per stage. Each function runs its stage without the project's lock; the methods of
//! [`crate::Project`] take the lock.

pub mod check;
pub mod clean;
pub mod embed;
pub mod evaluate;
pub mod export;
pub mod given_predictions;
pub mod hard_images;
mod image_batches;
pub mod inspect;
pub mod labels;
pub mod partition;
pub mod predict;
pub mod prepare;
pub mod pull;
pub mod recipe;
pub mod review;
pub mod study;
pub mod train;
mod training_speed;
pub mod truth;
pub mod tune;

//! A handle's seeded generator of random numbers.

use std::hash::{BuildHasher, RandomState};

use crate::sync::atomic::{AtomicU64, Ordering};

/// Draws random numbers through a shared reference, without a lock.
///
/// SplitMix64 (Steele, Lea, Flood 2014): the state is a counter, so a draw is one atomic addition and a mix, and the
/// sequence of one seed is the same in every run.
#[derive(Debug)]
pub struct Rng(AtomicU64);

impl Rng {
    /// Starts a sequence that this seed always repeats.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Starts a sequence that nobody can foresee.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // the one place that may
    pub fn unseeded() -> Self {
        Self::with_seed(RandomState::new().hash_one(0_u64))
    }

    /// Draws the next number.
    #[must_use]
    pub fn next(&self) -> u64 {
        mix(self.0.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed).wrapping_add(GOLDEN_GAMMA))
    }

    /// Starts a sequence of its own for a clone of the owner.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with_seed(self.next())
    }
}

/// Turns a random number into a fraction in `0.0..1.0`.
#[must_use]
pub fn fraction(random: u64) -> f64 {
    // The upper 53 bits: as many as the mantissa of an f64 holds.
    #[allow(clippy::cast_precision_loss)]
    let numerator = (random >> 11) as f64;
    numerator / (1_u64 << 53) as f64
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 2^64 divided by the golden ratio, made odd: the increment of the published algorithm.
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_sequence() {
        let rng = Rng::with_seed(1_234_567);
        assert_eq!(
            [rng.next(), rng.next(), rng.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_fraction_is_below_one() {
        assert!(fraction(u64::MAX) < 1.0);
        assert!(fraction(0).abs() < f64::EPSILON);
    }
}

//! How many retries a client may make for the successes it sees.
//!
//! Without a budget, three attempts per call are three times the load on a peer that is failing already. With one, a
//! success pays a fraction of a retry into an account, a retry takes a whole one out, and both are forgotten after a
//! while: extra load is a share of the successes, however many calls fail. A reserve that refills by itself lets
//! clients with little traffic retry at all. This is the retry budget of Twitter's Finagle.

use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::require;
use crate::policy::ticks::Ticks;
use crate::time::Instant;

/// How large a [`Budget`] is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetConfig {
    /// Retries per success. Default 0.2: at most 20 % more load. Higher hides more failures and hits a failing peer
    /// harder; 0.0 leaves the reserve only. Allowed: 0.0, or 0.001 to 1000.0.
    pub ratio: f64,
    /// Retries per second that need no successes. Default 10: a client with little traffic can retry. Higher matters
    /// when many clients share a peer, since each has its own. Allowed: any, 0 too.
    pub min_per_second: u32,
    /// How long a success or a retry is remembered. Default 10 s; longer allows longer bursts after a calm. It is
    /// forgotten in tenths, so up to a tenth early. Allowed: 1 s to 60 s.
    pub ttl: Duration,
}

/// Counts successes and retries, and tells whether another retry may be made.
#[derive(Clone, Debug)]
pub struct Budget {
    ticks: Ticks,
    slots: [i64; SLOTS],
    current: usize,
    // The sum of the slots, kept up to date.
    sum: i64,
    reserve: i64,
    deposit: i64,
    withdrawal: i64,
}

/// Finagle's number: expiry in tenths of the time is fine enough for an account of whole retries.
const SLOTS: usize = 10;

/// A success is worth this much, so that a retry's price, a multiple of it, is a whole number for common ratios.
const DEPOSIT: i64 = 1000;

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 10, ttl: Duration::from_secs(10) }
    }
}

impl BudgetConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ratio = self.ratio;
        require(ratio == 0.0 || (0.001..=1000.0).contains(&ratio), "ratio", ratio, "0.0, or between 0.001 and 1000.0")?;
        let allowed = Duration::from_secs(1)..=Duration::from_secs(60);
        require(allowed.contains(&self.ttl), "ttl", format_args!("{:?}", self.ttl), "between 1 s and 60 s")
    }
}

impl Budget {
    /// Makes a budget whose reserve is full.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn new(config: BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        // The ratio's range gives a price of 1 to 1,000,000; a fraction of it is dropped, as Finagle does.
        let (deposit, withdrawal) =
            if config.ratio == 0.0 { (0, 1) } else { (DEPOSIT, (DEPOSIT as f64 / config.ratio) as i64) };
        let reserve = i128::from(config.min_per_second) * config.ttl.as_nanos() as i128 * i128::from(withdrawal)
            / Duration::from_secs(1).as_nanos() as i128;
        Ok(Self {
            ticks: Ticks::new(config.ttl / SLOTS as u32),
            slots: [0; SLOTS],
            current: 0,
            sum: 0,
            reserve: i64::try_from(reserve).unwrap_or(i64::MAX / 2),
            deposit,
            withdrawal,
        })
    }

    /// Pays in for a call that succeeded.
    #[inline]
    pub fn deposit(&mut self, now: Instant) {
        self.expire(now);
        self.add(now, self.deposit);
    }

    /// Pays for one retry. Returns false, and takes nothing, if there is not enough for it.
    #[must_use]
    pub fn withdraw(&mut self, now: Instant) -> bool {
        self.expire(now);
        if self.funds() < self.withdrawal {
            return false;
        }
        self.add(now, -self.withdrawal);
        true
    }

    /// How many retries could be made now.
    #[must_use]
    pub fn balance(&mut self, now: Instant) -> u64 {
        self.expire(now);
        u64::try_from(self.funds() / self.withdrawal).unwrap_or(0)
    }

    // Below zero when the deposits that paid for retries are forgotten before the retries are.
    fn funds(&self) -> i64 {
        self.reserve.saturating_add(self.sum)
    }

    #[inline]
    fn add(&mut self, now: Instant, amount: i64) {
        self.ticks.start(now);
        self.slots[self.current] = self.slots[self.current].saturating_add(amount);
        self.sum = self.sum.saturating_add(amount);
    }

    #[inline]
    fn expire(&mut self, now: Instant) {
        let steps = self.ticks.advance(now);
        if steps >= SLOTS as u64 {
            self.slots = [0; SLOTS];
            self.sum = 0;
            return;
        }
        for _ in 0..steps {
            self.current = (self.current + 1) % SLOTS;
            self.sum = self.sum.saturating_sub(std::mem::take(&mut self.slots[self.current]));
        }
    }
}

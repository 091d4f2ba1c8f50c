//! Whether a gRPC channel may retry: the `retryThrottling` of a service config.
//!
//! A count of tokens per server name that failures take from and successes add to; while half of them or fewer are
//! left, nothing is retried or hedged. Unlike a [`Budget`](crate::policy::Budget) it knows no time: a channel whose
//! retries are off needs successes to get them back. It is here because service configs ask for it by name (A6).

use crate::error::ConfigError;
use crate::policy::require;

/// How a [`Throttle`] counts. A6 has no defaults: a service config states both or has no throttling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottleConfig {
    /// The tokens at the start and at most. More let more calls fail before retries stop. Allowed: 1 to 1000.
    pub max_tokens: u32,
    /// The tokens that a success adds; a failure takes one. Kept to three decimals, as A6 asks. More bring retries
    /// back sooner. Allowed: 0.001 to 1000.0.
    pub token_ratio: f64,
}

/// Counts failures against successes, and tells whether another attempt may be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Throttle {
    // In thousandths.
    tokens: u64,
    max: u64,
    success: u64,
}

impl ThrottleConfig {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// Names the first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require((1..=1000).contains(&self.max_tokens), "max_tokens", self.max_tokens, "between 1 and 1000")?;
        let ratio = self.token_ratio;
        require((0.001..=1000.0).contains(&ratio), "token_ratio", ratio, "between 0.001 and 1000.0")
    }
}

impl Throttle {
    /// Makes a throttle that has all its tokens.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn new(config: ThrottleConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let max = u64::from(config.max_tokens) * 1000;
        // Decimals beyond the third are ignored (A6); a product that rounding left just short of a whole one is not.
        let success = (config.token_ratio * 1000.0 + 1e-6) as u64;
        Ok(Self { tokens: max, max, success })
    }

    /// Counts an attempt that ended OK.
    pub fn succeed(&mut self) {
        self.tokens = self.tokens.saturating_add(self.success).min(self.max);
    }

    /// Counts an attempt that ended with a retryable status, or whose server asked not to be tried again.
    pub fn fail(&mut self) {
        self.tokens = self.tokens.saturating_sub(1000);
    }

    /// Tells whether retries are on.
    #[must_use]
    pub fn allows(&self) -> bool {
        // "If `token_count` is less than or equal to the threshold, defined to be `(maxTokens / 2)`, then RPCs will not
        // be retried" - A6, Throttling Retry Attempts and Hedged RPCs
        self.tokens > self.max / 2
    }
}

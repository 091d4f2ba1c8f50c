//! The policy document.

mod document;
mod effective;
mod errors;
mod lint;

use mainstay::config::Config;
use mainstay::config::ConfigErrors;

/// Reads a document in an environment with the variables given.
fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::parse(text, "mesh.yaml", &|variable| {
        env.iter().find(|(name, _)| *name == variable).map(|(_, value)| (*value).to_owned())
    })
}

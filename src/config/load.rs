//! Reads the document from a file.
//!
//! The one place in this room with I/O, so that code has the same one-line way to its settings as the proxy; all else
//! is done by [`Config::parse`], which has none.

use std::path::Path;

use super::Config;
use super::ConfigErrors;
use super::DocumentError;

impl Config {
    /// Reads the document in a file, with this process's environment variables.
    ///
    /// # Errors
    /// That the file cannot be read or is not UTF-8, and all that [`Config::parse`] finds.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, ConfigErrors> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            DocumentError::message(&name, None, String::new(), format!("the file cannot be read: {error}"))
        })?;
        // A variable that is not UTF-8 is one that cannot be used, which is what a missing one is.
        Self::parse(&text, &name, &|variable| std::env::var(variable).ok())
    }
}
